package awsfront

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	tokenPrefix = "k8s-aws-v1."
	tokenLimit  = 4 << 10
	tokenAge    = 15 * time.Minute
	clusterID   = "x-k8s-aws-id"
)

// tokenReview is what an API server sends to its token webhook and reads back.
type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token string `json:"token"`
	} `json:"spec,omitzero"`
	Status tokenStatus `json:"status"`
}

type tokenStatus struct {
	Authenticated bool       `json:"authenticated"`
	User          *tokenUser `json:"user,omitempty"`
	Error         string     `json:"error,omitempty"`
}

type tokenUser struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

// authenticateToken is the token webhook of one cluster.
func (f *Front) authenticateToken(w http.ResponseWriter, r *http.Request, cluster string) {
	if !slices.ContainsFunc(f.cfg.Clusters, func(c Cluster) bool { return c.Name == cluster }) {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such cluster: " + cluster})
		return
	}
	var review tokenReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&review); err != nil || review.Kind != "TokenReview" {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "the body is no TokenReview"})
		return
	}
	answer := tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
	user, err := f.userOf(cluster, review.Spec.Token)
	if err != nil {
		answer.Status.Error = err.Error()
	} else {
		answer.Status = tokenStatus{Authenticated: true, User: user}
	}
	writeJSON(w, http.StatusOK, answer)
}

// userOf checks a token and maps its session to the cluster's access entry.
func (f *Front) userOf(cluster, token string) (*tokenUser, error) {
	id, key, err := f.verifyPresigned(cluster, token)
	if err != nil {
		return nil, err
	}
	if id.Role == "" {
		return nil, fmt.Errorf("mapping %s: only role sessions can have an access entry here", id.ARN)
	}
	var entry *accessEntry
	admin := false
	f.store.read(func(d *data) {
		if e := d.Entries[cluster][id.Role]; e != nil {
			c := *e
			entry, admin = &c, e.admin()
		}
	})
	if entry == nil {
		return nil, fmt.Errorf("mapping %s: the role %s has no access entry on cluster %q", id.ARN, id.Role, cluster)
	}
	groups := slices.Clone(entry.KubernetesGroups)
	if admin {
		groups = append(groups, "system:masters")
	}
	name := strings.NewReplacer("{{SessionName}}", strings.ReplaceAll(id.Session, "@", "-"), "{{SessionNameRaw}}", id.Session, "{{AccountID}}", id.Account).Replace(entry.Username)
	unique, _, _ := strings.Cut(id.UserID, ":")
	return &tokenUser{Username: name, UID: "aws-iam-authenticator:" + id.Account + ":" + unique, Groups: groups, Extra: map[string][]string{
		"accessKeyId": {key}, "arn": {id.ARN}, "canonicalArn": {id.Role}, "principalId": {unique}, "sessionName": {id.Session},
		"sigs.k8s.io/aws-iam-authenticator/principalId": {unique},
	}}, nil
}

// verifyPresigned checks a presigned GetCallerIdentity by the rules of
// aws-iam-authenticator. That one calls STS and must know the host for safe;
// the front is STS and calls nobody, so the host is only part of what is
// signed.
func (f *Front) verifyPresigned(cluster, token string) (identity, string, error) {
	encoded, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(token) > tokenLimit {
		return identity{}, "", errors.New("reading the token: it is no EKS token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return identity{}, "", fmt.Errorf("reading the token: %w", err)
	}
	u, err := url.Parse(string(raw))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "/" && u.Path != "" || u.User != nil {
		return identity{}, "", errors.New("reading the token: it holds no presigned STS address")
	}
	if err := checkTokenQuery(u); err != nil {
		return identity{}, "", err
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
	sig, err := readSignature(r)
	if err != nil {
		return identity{}, "", err
	}
	now := f.now()
	id, known := f.store.key(sig.accessKey)
	switch {
	case sig.service != "sts":
		return identity{}, "", errors.New("checking the token: it is not signed for STS")
	case !slices.Contains(sig.signed, clusterID):
		return identity{}, "", errors.New("checking the token: " + clusterID + " is not signed")
	case slices.ContainsFunc(sig.signed, func(h string) bool { return h != "host" && h != clusterID }):
		return identity{}, "", errors.New("checking the token: it signs headers other than host and " + clusterID)
	case sig.expires > tokenAge:
		return identity{}, "", errors.New("checking the token: X-Amz-Expires is above 900")
	case now.Sub(sig.time) > tokenAge || sig.time.Sub(now) > tokenAge:
		return identity{}, "", fmt.Errorf("checking the token: it was made at %s, more than 15 minutes from now", sig.time.Format(time.RFC3339))
	case !known || id.Token != sig.token:
		return identity{}, "", errors.New("checking the token: the session is not known")
	case !sig.matches(r, id.Secret, emptyHash, map[string]string{clusterID: cluster}):
		return identity{}, "", fmt.Errorf("checking the token: the signature is not one for cluster %q", cluster)
	case !id.live(now):
		return identity{}, "", errors.New("checking the token: the session has expired")
	}
	return id, sig.accessKey, nil
}

func checkTokenQuery(u *url.URL) error {
	known := []string{"action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-security-token", "x-amz-signature", "x-amz-signedheaders"}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	seen := map[string]bool{}
	for key, values := range query {
		lower := strings.ToLower(key)
		if !slices.Contains(known, lower) || len(values) != 1 || seen[lower] {
			return fmt.Errorf("checking the token: the query key %q is not permitted, or comes twice", key)
		}
		seen[lower] = true
	}
	if query.Get("Action") != "GetCallerIdentity" {
		return fmt.Errorf("checking the token: the action is %q, not GetCallerIdentity", query.Get("Action"))
	}
	return nil
}
