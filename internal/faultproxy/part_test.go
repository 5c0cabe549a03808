package faultproxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCallsAreNamedAndClassified: per part, "METHOD path [header: value] [body]" to its action; "!" marks those that change something.
func TestCallsAreNamedAndClassified(t *testing.T) {
	form, target, signed := "Content-Type: application/x-www-form-urlencoded", "X-Amz-Target: TrentService.", "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-central-1/"
	for _, c := range []struct {
		part                       Part
		method, path, header, body string
		action                     string
		mutates                    bool
	}{
		{AWS(), "POST", "/", target + "CreateKey", "", "CreateKey", true},
		{AWS(), "POST", "/", target + "Sign", "", "Sign", false},
		{AWS(), "POST", "/", target + "SomethingNew", "", "SomethingNew", true},
		{AWS(), "POST", "/", "X-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.GetTrail", "", "GetTrail", false},
		{AWS(), "POST", "/", form, "Action=CreateRole&Version=2010-05-08", "CreateRole", true},
		{AWS(), "POST", "/", form, "Version=2011-06-15&Action=AssumeRole", "AssumeRole", false},
		{AWS(), "PUT", "/bucket", "", "", "PUT bucket", true},
		{AWS(), "PUT", "/bucket?policy", signed + "s3/aws4_request, SignedHeaders=host", "", "PUT bucket ?policy", true},
		{AWS(), "GET", "/bucket/key/of/it?versionId=1", signed + "s3/aws4_request, SignedHeaders=host", "", "GET object", false},
		{AWS(), "POST", "/bucket/key?uploadId=x", "", "", "POST object ?uploadId", true},
		{AWS(), "POST", "/clusters/c/access-entries", signed + "eks/aws4_request, SignedHeaders=host", "", "POST access-entries", true},
		{AWS(), "GET", "/clusters/c/access-entries/arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr", signed + "eks/aws4_request, SignedHeaders=host", "", "GET access-entries", false},
		{S3(), "DELETE", "/bucket/key", "", "", "DELETE object", true},
		{S3(), "HEAD", "/bucket/key", "", "", "HEAD object", false},
		{GitLab(), "GET", "/api/v4/projects/1", "", "", "GET", false},
		{GitLab(), "POST", "/api/v4/projects/1/deployments", "", "", "POST", true},
		{GitLab(), "GET", "/a/b.git/info/refs?service=git-receive-pack", "", "", "git refs", false},
		{GitLab(), "POST", "/a/b.git/git-upload-pack", "", "", "git fetch", false},
		{GitLab(), "POST", "/a/b.git/git-receive-pack", "", "", "git push", true},
		{Registry(), "PATCH", "/v2/nsflow/orders/blobs/uploads/1", "", "", "PATCH uploads", true},
		{Registry(), "PUT", "/v2/nsflow/orders/manifests/1", "", "", "PUT manifests", true},
		{Registry(), "HEAD", "/v2/nsflow/orders/blobs/sha256:0", "", "", "HEAD blobs", false},
		{Kubernetes(), "GET", "/api/v1/namespaces/a/secrets", "", "", "list secrets", false},
		{Kubernetes(), "GET", "/api/v1/namespaces/a/secrets/b", "", "", "get secrets", false},
		{Kubernetes(), "GET", "/api/v1/namespaces/a", "", "", "get namespaces", false},
		{Kubernetes(), "GET", "/apis/apps/v1/deployments?watch=true", "", "", "watch deployments.apps", false},
		{Kubernetes(), "POST", "/api/v1/namespaces", "", "", "create namespaces", true},
		{Kubernetes(), "PUT", "/api/v1/namespaces/a/finalize", "", "", "update namespaces/finalize", true},
		{Kubernetes(), "PATCH", "/apis/apps/v1/namespaces/a/deployments/b/scale", "", "", "patch deployments/scale.apps", true},
		{Kubernetes(), "PATCH", "/apis/apps/v1/namespaces/a/deployments/b?dryRun=All", "", "", "patch deployments.apps", false},
		{Kubernetes(), "DELETE", "/api/v1/namespaces/a/pods", "", "", "deletecollection pods", true},
		{Kubernetes(), "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", "", "create selfsubjectaccessreviews.authorization.k8s.io", false},
		{Kubernetes(), "POST", "/apis/authentication.k8s.io/v1/tokenreviews", "", "", "create tokenreviews.authentication.k8s.io", false},
		{Kubernetes(), "POST", "/api/v1/namespaces/a/serviceaccounts/b/token", "", "", "create serviceaccounts/token", false},
		{Kubernetes(), "POST", "/api/v1/namespaces/a/pods/b/exec?command=ls", "", "", "create pods/exec", true},
		{Kubernetes(), "GET", "/api/v1/namespaces/a/pods/b/exec?command=ls", "", "", "get pods/exec", true},
		{Kubernetes(), "GET", "/api/v1/namespaces/a/pods/b/log", "", "", "get pods/log", false},
		{Kubernetes(), "GET", "/version", "", "", "get /version", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			r.Header.Set(name, value)
		}
		got := c.part.describe(r)
		if got.Action != c.action || got.Mutates != c.mutates {
			t.Errorf("%s %s %s: %q, changes something: %t; want %q, %t", c.part.Name, c.method, c.path, got.Action, got.Mutates, c.action, c.mutates)
		}
		left := make([]byte, len(c.body)+1)
		if n, _ := r.Body.Read(left); string(left[:n]) != c.body {
			t.Errorf("%s %s: the body is now %q", c.method, c.path, left[:n])
		}
	}
}

// awsMutates are the actions of our programs that change something.
func awsMutates() []string {
	return []string{
		"CreateTrail", "UpdateTrail", "StartLogging",
		"AddClientIDToOpenIDConnectProvider", "CreateOpenIDConnectProvider",
		"CreateRole", "UpdateRole", "UpdateAssumeRolePolicy", "PutRolePolicy", "DeleteRolePolicy", "TagRole", "CreateUser", "CreateAccessKey",
		"CreateKey", "CreateAlias", "EnableKey", "EnableKeyRotation", "PutKeyPolicy", "ScheduleKeyDeletion", "CancelKeyDeletion",
		"CreateAccount", "CreateOrganization", "CreateOrganizationalUnit", "EnableAWSServiceAccess", "MoveAccount", "PutParameter",
	}
}

// TestActionsOfOurProgramsAreClassified holds the lists to the calls that the
// programs make, as their source says: service.ActionInput.
func TestActionsOfOurProgramsAreClassified(t *testing.T) {
	services := []string{"cloudtrail", "iam", "kms", "organizations", "ssm", "sts"}
	found := 0
	for _, dir := range []string{"../../pkg", "../../tools"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				action, isInput := strings.CutSuffix(s.Sel.Name, "Input")
				if x, ok := s.X.(*ast.Ident); !ok || !isInput || !slices.Contains(services, x.Name) {
					return true
				}
				found++
				if slices.Contains(awsReads(), action) == slices.Contains(awsMutates(), action) {
					t.Errorf("%s: %s must be in awsReads of aws.go, or in awsMutates here", path, action)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 30 {
		t.Errorf("%d calls were found: the source was not read", found)
	}
}

func TestRefusalsHaveTheirHeaders(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for _, c := range []struct {
		part   Part
		status int
		header string
	}{
		{GitLab(), 429, "RateLimit-Limit RateLimit-Name RateLimit-Observed RateLimit-Remaining RateLimit-Reset RateLimit-ResetTime Retry-After"},
		{Kubernetes(), 429, "Retry-After"}, {Registry(), 429, "Retry-After"}, {S3(), 503, "Content-Type"},
	} {
		w := httptest.NewRecorder()
		c.part.refuse(r, Throttle(1500_000_000)).write(w)
		if w.Code != c.status {
			t.Errorf("%s throttles with %d", c.part.Name, w.Code)
		}
		for _, name := range strings.Fields(c.header) {
			if w.Header().Get(name) == "" {
				t.Errorf("%s throttles without %s", c.part.Name, name)
			}
		}
		if after := w.Header().Get("Retry-After"); after != "" && after != "2" {
			t.Errorf("%s: Retry-After %s, want whole seconds, rounded up", c.part.Name, after)
		}
	}
}
