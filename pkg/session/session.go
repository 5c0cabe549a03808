// Package session joins the adapters for one run: which job or person this is,
// the landscape snapshot, GitLab and AWS. It is the one package above the
// adapters and below the verbs.
package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Options say where the landscape snapshot is: a file, or
// "gitlab:<project path or id>" for the one that bootstrap published there.
type Options struct {
	Landscape string
}

// Session is who runs and what they run against.
type Session struct {
	CI       cienv.CI
	Identity cienv.Identity // the zero value for a person
	Snapshot *landscape.Snapshot
	Digest   string
	GitLab   *gitlabapi.Client // nil where no token is known
	Owner    owner.Owner
}

// LandscapeFlag is the flag that names the snapshot. Its shared variable is
// SLIPWAY_LANDSCAPE, since a pipeline names it once for all programs.
func LandscapeFlag() cli.Flag {
	return &cli.StringFlag{Name: "landscape", Usage: "`WHERE` the landscape snapshot is: a file, or gitlab:PROJECT (also SLIPWAY_LANDSCAPE)"}
}

// Landscape returns the flag's value, or that of the shared variable.
func Landscape(flags *cli.Context, env func(string) string) string {
	if v := flags.String("landscape"); v != "" {
		return v
	}
	return env("SLIPWAY_LANDSCAPE")
}

// Open reads the environment, fetches the snapshot and verifies the job's ID
// token. It notes the digest and the identity in the report.
func Open(ctx context.Context, run *tool.Run, o Options) (*Session, error) {
	s := &Session{CI: cienv.Read(run.Env)}
	if o.Landscape == "" {
		return nil, tool.Exit(tool.Usage, errors.New("missing --landscape"), "set SLIPWAY_LANDSCAPE to gitlab:<platform project>, or to a snapshot file")
	}
	if s.CI.ServerURL != "" && (s.CI.JobToken != "" || s.CI.Token != "") {
		client, err := gitlabapi.New(gitlabapi.Config{URL: s.CI.ServerURL, Endpoint: s.CI.Endpoint, JobToken: s.CI.JobToken, Token: s.CI.Token})
		if err != nil {
			return nil, err
		}
		s.GitLab = client
	}
	raw, err := s.fetch(ctx, o.Landscape)
	if err != nil {
		return nil, err
	}
	if s.Snapshot, err = landscape.ReadSnapshot(raw); err != nil {
		return nil, tool.Exit(tool.Usage, err)
	}
	if s.GitLab != nil && s.CI.ServerURL != s.Snapshot.GitLab.URL {
		return nil, OtherInstance(s.CI.ServerURL, s.Snapshot.GitLab.URL)
	}
	if s.Digest, err = s.Snapshot.Digest(); err != nil {
		return nil, err
	}
	run.Report.Landscape = s.Digest
	return s, s.identify(ctx, run)
}

// OtherInstance says that a run is at another GitLab than the landscape's: it
// must not be asked for records, nor given a token.
func OtherInstance(here, trusted string) error {
	return tool.Exit(tool.Usage, fmt.Errorf("this is GitLab %q, and the landscape trusts %q", here, trusted), "gitlab.url is the issuer of the ID tokens, to the letter")
}

func (s *Session) fetch(ctx context.Context, where string) ([]byte, error) {
	project, remote := strings.CutPrefix(where, "gitlab:")
	if !remote {
		raw, err := os.ReadFile(where)
		return raw, tool.Exit(tool.Usage, err, "--landscape names a snapshot file, or gitlab:PROJECT")
	}
	if s.GitLab == nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("fetching the landscape snapshot from %q: no GitLab token is known", where),
			"in a job, CI_SERVER_URL and CI_JOB_TOKEN are there; elsewhere set CI_SERVER_URL and SLIPWAY_GITLAB_TOKEN")
	}
	client := s.GitLab
	if s.CI.JobToken != "" && !client.AsJob() {
		// Allow-lists are made for the job's own token; the other one may be of a bot that knows its own project alone.
		var err error
		if client, err = gitlabapi.New(gitlabapi.Config{URL: s.CI.ServerURL, Endpoint: s.CI.Endpoint, JobToken: s.CI.JobToken}); err != nil {
			return nil, err
		}
	}
	raw, err := client.Snapshot(ctx, project)
	if gitlabapi.NotFound(err) {
		return nil, tool.Hint(err, "slipway-bootstrap apply publishes it; the platform project's job token allow-list must name this project")
	}
	return raw, gitlabapi.Passing(err)
}

// identify says who runs. A run outside of a job is a person's, with that
// person's own credentials.
func (s *Session) identify(ctx context.Context, run *tool.Run) error {
	if !s.CI.InJob {
		name := "unknown"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		s.Owner = owner.Owner{Kind: "person", Instance: s.Snapshot.GitLab.URL, User: name, Start: time.Now().UTC()}
		return nil
	}
	gl := s.Snapshot.GitLab
	id, err := Identify(ctx, run, s.CI, gl.URL, gl.Audience)
	if err != nil {
		return err
	}
	s.Identity = id
	s.Owner = owner.Owner{Kind: "job", Instance: gl.URL, Project: id.ProjectID, Pipeline: id.PipelineID, Job: id.JobID,
		User: id.User, URL: fmt.Sprintf("%s/%s/-/jobs/%d", gl.URL, id.ProjectPath, id.JobID), Start: time.Now().UTC()}
	return nil
}

// Identify verifies a job's ID token and notes the identity in the report. A
// job without a valid one gets nothing.
func Identify(ctx context.Context, run *tool.Run, ci cienv.CI, issuer, audience string) (cienv.Identity, error) {
	endpoint := issuer
	if ci.ServerURL == issuer {
		endpoint = ci.Endpoint
	}
	id, err := cienv.Verify(ctx, ci.IDToken, issuer, endpoint, audience)
	switch {
	case errors.Is(err, cienv.ErrUnreachable) && !errors.Is(err, context.Canceled):
		return id, tool.Exit(tool.Temporary, err)
	case err != nil:
		return id, tool.Exit(tool.Denied, err, "the job needs id_tokens: {SLIPWAY_ID_TOKEN: {aud: "+audience+"}}; the shipped templates have it")
	}
	run.Report.Identity = id.Claims()
	return id, nil
}

// AWS returns the configuration for a role, and makes the first call with it,
// so that a refusal is told as such (exit 77) before anything is touched. A
// person works with their own credentials and assumes no role here.
func (s *Session) AWS(ctx context.Context, role landscape.Role) (aws.Config, error) {
	src := awsauth.Source{Region: s.Snapshot.Region}
	if s.CI.InJob {
		src.Token, src.Role = s.CI.IDToken, role.ARN
		src.Session = awsauth.SessionName(s.Identity.ProjectID, s.Identity.PipelineID, s.Identity.JobID)
	}
	cfg, err := awsauth.Config(ctx, src)
	if err != nil {
		return aws.Config{}, err
	}
	patience := time.Duration(0)
	hint := fmt.Sprintf("role %q trusts the subjects %s; this job's is %q", role.ARN, strings.Join(role.Subjects, ", "), s.Identity.Subject)
	if trusts(role, s.Identity.Subject) {
		patience = newRole
		hint = fmt.Sprintf("by the landscape the role trusts this job. It was not usable within %s: it may be new or changed, then run the job again; or somebody changed its trust policy, then slipway-bootstrap verify tells", newRole)
	}
	if err := check(ctx, cfg, patience); err != nil {
		return aws.Config{}, tool.Hint(fmt.Errorf("assuming role %q: %w", role.Name, err), hint)
	}
	return cfg, nil
}

// newRole is how long a role that should let the job in is tried: IAM lets
// what bootstrap wrote count some seconds later, and the next job of the same
// pipeline may come sooner.
const newRole = time.Minute

// trusts reports whether the role lets jobs with this subject in, by the
// landscape.
func trusts(role landscape.Role, subject string) bool {
	return slices.ContainsFunc(role.Subjects, func(pattern string) bool {
		expression := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
		ok, err := regexp.MatchString("^"+expression+"$", subject)
		return ok && err == nil
	})
}

// check makes the first call. A refusal is tried again while the patience lasts.
func check(ctx context.Context, cfg aws.Config, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 8*time.Second) {
		_, err := awsauth.Check(ctx, cfg)
		if err == nil || tool.CodeOf(err) != tool.Denied || time.Now().Add(wait).After(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
