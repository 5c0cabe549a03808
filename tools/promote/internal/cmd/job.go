package cmd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
)

// jobUser is the name a job token goes with.
const jobUser = "gitlab-ci-token"

// job joins the adapters for a job of the environments project.
type job struct {
	run     *tool.Run
	session *session.Session
}

func (j job) now() time.Time { return time.Now() }

// registry returns the host of the instance's registry.
func (j job) registry() string {
	host, _, _ := strings.Cut(j.session.CI.RegistryImage, "/")
	return host
}

func (j job) fetch(ctx context.Context, r bundle.Reference) (*bundle.Bundle, error) {
	return bundle.Fetch(ctx, r, bundle.Access{Host: j.registry(), User: jobUser, Password: j.session.CI.JobToken})
}

// clone clones the project that the verified ID token names, with the job's
// own right.
func (j job) clone(ctx context.Context) (*gitrepo.Repo, error) {
	s := j.session
	remote := gitrepo.Remote{URL: s.CI.Endpoint + "/" + s.Identity.ProjectPath + ".git", Branch: s.Identity.Ref,
		User: jobUser, Token: s.CI.JobToken, Email: "slipway@" + hostOf(s.Snapshot.GitLab.URL)}
	j.run.Log.Redact(remote.Header())
	return gitrepo.Clone(ctx, remote, j.run.Env, j.run.Log)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "localhost"
	}
	return u.Hostname()
}

// email returns user_email of the ID token, whose signature the session has
// verified; "" where the token has none.
func (j job) email() string {
	parts := strings.Split(j.session.CI.IDToken, ".")
	if len(parts) != 3 {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Email string `json:"user_email"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return ""
	}
	return claims.Email
}
