// Package gitlabapitest is a small GitLab: the REST calls, the git transport, the pipelines and the ID tokens
// that a pipeline of this toolkit meets, over real git repositories and real processes.
//
// It speaks GitLab's wire format and keeps GitLab's limits (what a job token may not do is refused here too), so
// that a test that passes against it has met the rules of the real service. No job state is ever set by hand: a
// job is a process, started by gitlab-ci-local from the repository's own .gitlab-ci.yml, and its state is what
// became of that process.
package gitlabapitest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Config describes one server. Projects and users that the state on disk does not know yet are added when the
// server is made; those that it knows keep their settings, as changed over the API.
type Config struct {
	// Root is the folder that holds repositories, packages, builds and state.
	Root string
	// ExternalURL is the instance's identity: the issuer of ID tokens and the base of web links.
	ExternalURL string
	// Endpoint is where this instance is reached from a job, without a trailing slash.
	Endpoint string
	// Registry is the address of the container registry, host:port.
	Registry string
	// Free leaves out what GitLab asks money for: protected environments, approvals, users and groups in protections,
	// scopes of group variables.
	Free bool
	// AdminToken is the administrator's access token.
	AdminToken string
	Users      []User
	Projects   []Project
	Runner     Runner
}

// User is a person with an access token of the scope api. The access level holds in every project that has not
// given the person another one.
type User struct {
	ID    int64
	Login string
	Name  string
	Email string
	Token string
	// AccessLevel is GitLab's number: 10 guest, 20 reporter, 30 developer, 40 maintainer, 50 owner.
	AccessLevel int
}

// Project is a project to make.
type Project struct {
	ID                int64
	Path              string
	Description       string
	DefaultBranch     string
	ProtectedBranches []string
	ProtectedTags     []string
	// ForkedFrom is the project that this one is a fork of, if it is one.
	ForkedFrom int64
	// AllowForcePush lets maintainers rewrite protected branches.
	AllowForcePush bool
	// Public lets anyone read the repository, without a token.
	Public bool
	// JobTokenAllowlist names the projects whose job tokens may enter this one.
	JobTokenAllowlist []int64
	// SubClaimComponents is ci_id_token_sub_claim_components; GitLab's default where empty.
	SubClaimComponents []string
	// PathUsedBefore says that another project once had this path: ID tokens whose subject names the path are refused.
	PathUsedBefore bool
	// PushForJobToken is ci_push_repository_for_job_token_allowed.
	PushForJobToken bool
	// VariablesRole is ci_pipeline_variables_minimum_override_role: who may give a pipeline variables of its own;
	// developer where empty, nobody with no_one_allowed.
	VariablesRole string
	// TriggerToken is a pipeline trigger token, if the project has one.
	TriggerToken string
}

// Runner says how jobs are run.
type Runner struct {
	// Command starts gitlab-ci-local, for example the path of node and the path of its index.js.
	Command []string
	// Path is put in front of PATH in every job.
	Path []string
	// Env holds further variables of every job, as an instance's CI/CD variables.
	Env map[string]string
	// Concurrency is the number of jobs at the same time; 8 where it is not positive.
	Concurrency int
}

func (c *Config) check() error {
	var problems []error
	if c.Root == "" {
		problems = append(problems, errors.New("root is empty: name the folder that holds the repositories"))
	} else if abs, err := filepath.Abs(c.Root); err != nil {
		problems = append(problems, err)
	} else {
		c.Root = abs
	}
	for name, value := range map[string]string{"external url": c.ExternalURL, "endpoint": c.Endpoint} {
		if u, err := url.Parse(value); err != nil || u.Host == "" {
			problems = append(problems, fmt.Errorf("%s %q is not an absolute URL", name, value))
		}
	}
	c.ExternalURL = strings.TrimRight(c.ExternalURL, "/")
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if c.AdminToken == "" {
		problems = append(problems, errors.New("admin token is empty"))
	}
	if c.Runner.Concurrency <= 0 {
		c.Runner.Concurrency = 8
	}
	for _, p := range c.Projects {
		if p.ID <= 0 || path.Clean("/"+p.Path) != "/"+p.Path || !strings.Contains(p.Path, "/") {
			problems = append(problems, fmt.Errorf("project %q (id %d) needs a positive id and a path such as group/project", p.Path, p.ID))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("configuring the gitlab server: %w", errors.Join(problems...))
	}
	return nil
}

// jobEnviron is what a job inherits from this process: enough to find programs and caches, nothing that is an
// identity. A developer's own cloud keys in the environment of the server must not make a job work.
func (c *Config) jobEnviron() []string {
	var env []string
	search := os.Getenv("PATH")
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH", name == "BASH_ENV", name == "KUBECONFIG", name == "CI", name == "NODE_OPTIONS", name == "PWD", name == "OLDPWD":
		case hasAnyPrefix(name, "AWS_", "CI_", "GITLAB", "SLIPWAY_", "GIT_", "GCL_", "TF_", "HELM_", "VELERO_"):
		default:
			env = append(env, kv)
		}
	}
	dirs := append(append([]string{}, c.Runner.Path...), search)
	return append(env, "PATH="+strings.Join(dirs, string(os.PathListSeparator)))
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
