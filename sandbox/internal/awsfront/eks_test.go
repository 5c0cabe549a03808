package awsfront

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// clusterToken makes a token as the aws command line does.
func clusterToken(t *testing.T, cfg aws.Config, cluster, expires string) string {
	t.Helper()
	client := sts.NewPresignClient(sts.NewFromConfig(cfg), sts.WithPresignClientFromClientOptions(
		sts.WithAPIOptions(smithyhttp.SetHeaderValue("x-k8s-aws-id", cluster), smithyhttp.SetHeaderValue("X-Amz-Expires", expires))))
	req, err := client.PresignGetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(req.URL))
}

func (b *bench) review(token string) tokenReview {
	b.t.Helper()
	raw, err := json.Marshal(map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": map[string]any{"token": token}})
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := http.Post(b.url+"/_slipway/eks/nsflow-nonprod/authenticate", "application/json", bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out tokenReview
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestEKS(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member, other := b.account("nonprod"), b.account("prod")
	inMember := b.in(member)
	client := eks.NewFromConfig(inMember)
	name := aws.String("nsflow-nonprod")

	got, err := client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Cluster; *c.Endpoint != "https://127.0.0.1:6443" || c.Status != ekstypes.ClusterStatusActive || *c.Version != "1.37" ||
		*c.Arn != "arn:aws:eks:eu-central-1:"+member+":cluster/nsflow-nonprod" || c.AccessConfig.AuthenticationMode != ekstypes.AuthenticationModeApi {
		t.Errorf("the cluster is %+v", c)
	}
	if ca, err := base64.StdEncoding.DecodeString(*got.Cluster.CertificateAuthority.Data); err != nil || !strings.Contains(string(ca), "BEGIN CERTIFICATE") {
		t.Errorf("the authority is %q, %v", ca, err)
	}
	_, err = eks.NewFromConfig(b.in(other)).DescribeCluster(ctx, &eks.DescribeClusterInput{Name: name})
	wantCode(t, err, "ResourceNotFoundException")
	elsewhere := inMember.Copy()
	elsewhere.Region = "eu-west-1"
	list, err := eks.NewFromConfig(elsewhere).ListClusters(ctx, nil)
	if err != nil || len(list.Clusters) != 0 {
		t.Errorf("clusters of another region = %v, %v", list, err)
	}
	list, err = client.ListClusters(ctx, nil)
	if err != nil || !slices.Equal(list.Clusters, []string{"nsflow-nonprod"}) {
		t.Errorf("clusters = %v, %v", list, err)
	}

	provider := b.provider(inMember)
	trust := webTrust(provider, `{"StringEquals":{"gitlab.example.com:sub":"`+subject+`"}}`)
	dev, deploy, stranger := b.role(inMember, "orders-dev", trust), b.role(inMember, "platform-deploy", trust), b.role(inMember, "stranger", trust)
	create := func(arn string, groups ...string) error {
		_, err := client.CreateAccessEntry(ctx, &eks.CreateAccessEntryInput{ClusterName: name, PrincipalArn: &arn, KubernetesGroups: groups, Tags: map[string]string{"a": "b"}})
		return err
	}
	wantCode(t, create(dev, "slipway:orders-dev"), "")
	wantCode(t, create(dev), "ResourceInUseException")
	wantCode(t, create(dev+"x"), "InvalidParameterException")
	wantCode(t, create(stranger, "system:masters"), "InvalidParameterException")
	wantCode(t, create(deploy), "")
	entry, err := client.DescribeAccessEntry(ctx, &eks.DescribeAccessEntryInput{ClusterName: name, PrincipalArn: &dev})
	if err != nil {
		t.Fatal(err)
	}
	if e := entry.AccessEntry; *e.PrincipalArn != dev || !slices.Equal(e.KubernetesGroups, []string{"slipway:orders-dev"}) || e.Tags["a"] != "b" ||
		*e.Username != "arn:aws:sts::"+member+":assumed-role/orders-dev/{{SessionName}}" || time.Since(*e.CreatedAt) > time.Minute {
		t.Errorf("the entry is %+v", e)
	}
	_, err = client.DescribeAccessEntry(ctx, &eks.DescribeAccessEntryInput{ClusterName: name, PrincipalArn: &stranger})
	wantCode(t, err, "ResourceNotFoundException")
	policy := aws.String(clusterAdmin)
	associate := func(kind ekstypes.AccessScopeType, arn string) error {
		_, err := client.AssociateAccessPolicy(ctx, &eks.AssociateAccessPolicyInput{ClusterName: name, PrincipalArn: &deploy, PolicyArn: &arn, AccessScope: &ekstypes.AccessScope{Type: kind}})
		return err
	}
	wantCode(t, associate(ekstypes.AccessScopeTypeCluster, clusterAdmin), "")
	wantCode(t, associate(ekstypes.AccessScopeTypeCluster, strings.Replace(clusterAdmin, "ClusterAdmin", "View", 1)), "InvalidParameterException")
	policies, err := client.ListAssociatedAccessPolicies(ctx, &eks.ListAssociatedAccessPoliciesInput{ClusterName: name, PrincipalArn: &deploy})
	if err != nil || len(policies.AssociatedAccessPolicies) != 1 || *policies.AssociatedAccessPolicies[0].PolicyArn != clusterAdmin {
		t.Errorf("policies = %+v, %v", policies, err)
	}
	admins, err := client.ListAccessEntries(ctx, &eks.ListAccessEntriesInput{ClusterName: name, AssociatedPolicyArn: policy})
	if err != nil || !slices.Equal(admins.AccessEntries, []string{deploy}) {
		t.Errorf("administrators = %v, %v", admins, err)
	}

	session := func(arn string) aws.Config {
		cfg, err := b.web(arn, b.gitlab.token(t, nil), 0)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	devSession := session(dev)
	b.restart() // entries and sessions outlive the front
	devSession.BaseEndpoint = &b.url
	tests := []struct {
		name, token, username string
		groups                []string
		moved                 time.Duration
	}{
		{"service", clusterToken(t, devSession, "nsflow-nonprod", "60"), "arn:aws:sts::" + member + ":assumed-role/orders-dev/gl-77-1-2", []string{"slipway:orders-dev"}, 0},
		{"still after 14 minutes", clusterToken(t, devSession, "nsflow-nonprod", "60"), "arn:aws:sts::" + member + ":assumed-role/orders-dev/gl-77-1-2", []string{"slipway:orders-dev"}, 14 * time.Minute},
		{"administrator", clusterToken(t, session(deploy), "nsflow-nonprod", "60"), "arn:aws:sts::" + member + ":assumed-role/platform-deploy/gl-77-1-2", []string{"system:masters"}, 0},
		{"no entry", clusterToken(t, session(stranger), "nsflow-nonprod", "60"), "", nil, 0},
		{"other cluster's token", clusterToken(t, devSession, "nsflow-prod", "60"), "", nil, 0},
		{"older than 15 minutes", clusterToken(t, devSession, "nsflow-nonprod", "60"), "", nil, 16 * time.Minute},
		{"too long", clusterToken(t, devSession, "nsflow-nonprod", "1000"), "", nil, 0},
		{"a user", clusterToken(t, b.adminConfig(), "nsflow-nonprod", "60"), "", nil, 0},
		{"unknown key", clusterToken(t, b.config("ASIA0000000000000000", "x", "y"), "nsflow-nonprod", "60"), "", nil, 0},
		{"forged", clusterToken(t, func() aws.Config {
			creds, err := devSession.Credentials.Retrieve(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return b.config(creds.AccessKeyID, "guess", creds.SessionToken)
		}(), "nsflow-nonprod", "60"), "", nil, 0},
		{"no EKS token", "eyJhbGciOi", "", nil, 0},
		{"an extra query key", tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(b.url+"/?Action=GetCallerIdentity&X-Evil=1")), "", nil, 0},
		{"another action", tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(b.url+"/?Action=AssumeRole")), "", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.clock.move(tt.moved)
			defer b.clock.move(-tt.moved)
			status := b.review(tt.token).Status
			if status.Authenticated != (tt.username != "") {
				t.Fatalf("status = %+v", status)
			}
			if tt.username == "" {
				if status.Error == "" || status.User != nil {
					t.Errorf("a refusal says %+v", status)
				}
				return
			}
			if status.User.Username != tt.username || !slices.Equal(status.User.Groups, tt.groups) {
				t.Errorf("user = %+v", status.User)
			}
		})
	}
	client = eks.NewFromConfig(b.in(member))
	if _, err := client.DeleteAccessEntry(ctx, &eks.DeleteAccessEntryInput{ClusterName: name, PrincipalArn: &dev}); err != nil {
		t.Fatal(err)
	}
	if status := b.review(clusterToken(t, devSession, "nsflow-nonprod", "60")).Status; status.Authenticated {
		t.Error("the token of a deleted entry is good")
	}
	if err := os.Remove(b.cfg.Clusters[0].CAFile); err != nil {
		t.Fatal(err)
	}
	got, err = client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: name})
	if err != nil || got.Cluster.Status != ekstypes.ClusterStatusCreating || got.Cluster.Endpoint != nil || got.Cluster.CertificateAuthority != nil {
		t.Errorf("before it has an authority the cluster is %+v, %v", got, err)
	}
}
