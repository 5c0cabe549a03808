package awsfront

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// clusterAdmin is the one access policy the sandbox's clusters can grant: it
// becomes the group system:masters. The others need EKS's own authorizer.
const clusterAdmin = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

// accessEntry is an EKS access entry, in EKS's own shape.
type accessEntry struct {
	AccessEntryARN   string             `json:"accessEntryArn"`
	ClusterName      string             `json:"clusterName"`
	PrincipalARN     string             `json:"principalArn"`
	KubernetesGroups []string           `json:"kubernetesGroups"`
	Username         string             `json:"username"`
	Type             string             `json:"type"`
	Tags             map[string]string  `json:"tags"`
	CreatedAt        float64            `json:"createdAt"`
	ModifiedAt       float64            `json:"modifiedAt"`
	Policies         []associatedPolicy `json:"policies,omitempty"` // not part of EKS's shape
}

type associatedPolicy struct {
	PolicyARN    string      `json:"policyArn"`
	AccessScope  accessScope `json:"accessScope"`
	AssociatedAt float64     `json:"associatedAt"`
	ModifiedAt   float64     `json:"modifiedAt"`
}

type accessScope struct {
	Type       string   `json:"type"`
	Namespaces []string `json:"namespaces"`
}

// shown is the entry as EKS answers it.
func (e accessEntry) shown() map[string]any {
	e.Policies = nil
	return map[string]any{"accessEntry": e}
}

func (e *accessEntry) admin() bool {
	return slices.ContainsFunc(e.Policies, func(p associatedPolicy) bool { return p.PolicyARN == clusterAdmin })
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// eksPath returns the unescaped parts of an EKS path: clusters, name,
// access-entries, principal, access-policies, policy.
func eksPath(r *http.Request) []string {
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i, p := range parts {
		if plain, err := url.PathUnescape(p); err == nil {
			parts[i] = plain
		}
	}
	return parts
}

// eksAction names an EKS call from method and path.
func eksAction(r *http.Request) string {
	p := eksPath(r)
	names := map[string]string{}
	switch {
	case p[0] != "clusters" || len(p) > 2 && p[2] != "access-entries" || len(p) > 4 && p[4] != "access-policies":
	case len(p) == 1:
		names = map[string]string{"GET": "ListClusters", "POST": "CreateCluster"}
	case len(p) == 2:
		names = map[string]string{"GET": "DescribeCluster", "DELETE": "DeleteCluster"}
	case len(p) == 3:
		names = map[string]string{"GET": "ListAccessEntries", "POST": "CreateAccessEntry"}
	case len(p) == 4:
		names = map[string]string{"GET": "DescribeAccessEntry", "POST": "UpdateAccessEntry", "DELETE": "DeleteAccessEntry"}
	case len(p) == 5:
		names = map[string]string{"GET": "ListAssociatedAccessPolicies", "POST": "AssociateAccessPolicy"}
	case len(p) == 6:
		names = map[string]string{"DELETE": "DisassociateAccessPolicy"}
	}
	if name, ok := names[r.Method]; ok {
		return name
	}
	return r.Method + " " + firstSegment(r.URL.Path)
}

// serveEKS answers what concerns clusters that stand and their access entries;
// it reports false for a call that is moto's.
func (f *Front) serveEKS(c *call) bool {
	handlers := map[string]func(*call, *Cluster, []string) (any, *apiError){
		"DescribeCluster": f.describeCluster, "CreateAccessEntry": f.createEntry, "DescribeAccessEntry": f.describeEntry,
		"ListAccessEntries": f.listEntries, "UpdateAccessEntry": f.updateEntry, "DeleteAccessEntry": f.deleteEntry,
		"AssociateAccessPolicy": f.associatePolicy, "DisassociateAccessPolicy": f.disassociatePolicy,
		"ListAssociatedAccessPolicies": f.listPolicies,
	}
	handler, ok := handlers[c.action]
	if !ok && c.action != "ListClusters" {
		return false
	}
	mine, err := f.clustersOf(c)
	if err != nil {
		c.fail(internal(err))
		return true
	}
	c.w.Header().Set("Content-Type", "application/json")
	if c.action == "ListClusters" {
		names := []string{}
		for _, m := range mine {
			names = append(names, m.Name)
		}
		writeJSON(c.w, http.StatusOK, map[string]any{"clusters": names})
		return true
	}
	path := eksPath(c.r)
	i := slices.IndexFunc(mine, func(m Cluster) bool { return m.Name == path[1] })
	if i < 0 {
		c.fail(refuse(http.StatusNotFound, "ResourceNotFoundException", "No cluster found for name: %s.", path[1]))
		return true
	}
	answer, refused := handler(c, &mine[i], path)
	if refused != nil {
		c.fail(refused)
		return true
	}
	writeJSON(c.w, http.StatusOK, answer)
	return true
}

// clustersOf returns the clusters of the caller's account and region.
func (f *Front) clustersOf(c *call) ([]Cluster, error) {
	var mine []Cluster
	for _, cluster := range f.cfg.Clusters {
		if cluster.Region != c.region {
			continue
		}
		account, err := f.accountNamed(c.r.Context(), cluster.AccountName)
		if err != nil {
			return nil, err
		}
		if account != "" && account == c.caller.Account {
			mine = append(mine, cluster)
		}
	}
	return mine, nil
}

func (f *Front) describeCluster(c *call, cluster *Cluster, _ []string) (any, *apiError) {
	out := map[string]any{
		"name": cluster.Name, "arn": "arn:aws:eks:" + cluster.Region + ":" + c.caller.Account + ":cluster/" + cluster.Name,
		"status":       "CREATING",
		"accessConfig": map[string]any{"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": false},
		"tags":         map[string]string{},
	}
	if cluster.Version != "" {
		out["version"] = cluster.Version
	}
	answer := map[string]any{"cluster": out}
	info, err := os.Stat(cluster.CAFile)
	if errors.Is(err, fs.ErrNotExist) {
		return answer, nil
	}
	if err != nil {
		return nil, internal(err)
	}
	ca, err := os.ReadFile(cluster.CAFile)
	if err != nil {
		return nil, internal(err)
	}
	out["status"], out["endpoint"], out["createdAt"] = "ACTIVE", cluster.Endpoint, epoch(info.ModTime())
	out["certificateAuthority"] = map[string]string{"data": base64.StdEncoding.EncodeToString(ca)}
	return answer, nil
}

func badParameter(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "InvalidParameterException", format, args...)
}

type entryInput struct {
	PrincipalARN     string             `json:"principalArn"`
	KubernetesGroups *[]string          `json:"kubernetesGroups"`
	Username         string             `json:"username"`
	Type             string             `json:"type"`
	Tags             *map[string]string `json:"tags"`
}

func (in entryInput) check() *apiError {
	if in.KubernetesGroups == nil {
		return nil
	}
	for _, g := range *in.KubernetesGroups {
		if g == "" || strings.HasPrefix(g, "system:") || strings.HasPrefix(g, "eks:") {
			return badParameter("The kubernetes group name %s is invalid, it cannot start with system: or eks:", g)
		}
	}
	return nil
}
