package gitlabapitest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
)

const (
	// stateDir is gitlab-ci-local's own folder in a checkout; configFile is where the configuration with its
	// inputs filled in lies, out of git's sight.
	stateDir = ".gitlab-ci-local"
	// validated is for a configuration that was held against the schema before: that is half of the time it takes.
	validated   = "--no-json-schema-validation"
	configFile  = stateDir + "/pipeline.yml"
	settingFile = stateDir + "/variables.yml"
	// includeUser begins the login for includes, which ends with the id of the pipeline's user.
	includeUser = "gitlab-ci-include-"
)

// invalid is a configuration that GitLab would refuse; its messages are shown to the user.
type invalid []string

func (e invalid) Error() string { return strings.Join(e, "\n") }

// checkout makes a working copy of one commit, with the origin that gitlab-ci-local derives the instance from.
func (s *Server) checkout(ctx context.Context, p *project, sha, dir, origin string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("checking out %q: %w", p.Path, err)
	}
	if _, err := git(ctx, filepath.Dir(dir), nil, nil, "clone", "--quiet", "--no-checkout", s.repository(p), dir); err != nil {
		return fmt.Errorf("checking out %q: %w", p.Path, err)
	}
	for _, args := range [][]string{
		{"remote", "set-url", "origin", origin},
		{"symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/" + p.DefaultBranch},
		{"config", "advice.detachedHead", "false"},
		{"checkout", "--quiet", "--detach", sha},
	} {
		if _, err := git(ctx, dir, nil, nil, args...); err != nil {
			return fmt.Errorf("checking out %q: %w", p.Path, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, stateDir), 0o700); err != nil {
		return fmt.Errorf("checking out %q: %w", p.Path, err)
	}
	for file, content := range map[string]string{".git/info/exclude": "/" + stateDir + "/\n", stateDir + "/ignore": "*\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
			return fmt.Errorf("checking out %q: %w", p.Path, err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			return fmt.Errorf("checking out %q: %w", p.Path, err)
		}
	}
	return nil
}

// resolved is what a pipeline is made of.
type resolved struct {
	jobs   []definition
	stages []string
}

// resolveConfig checks the commit out and finds the pipeline's jobs. It returns invalid for everything that is the
// configuration's fault. The folder stays: jobs take the includes from it that were fetched here.
//
// settings are variables that may be secret: they stand in a file.
func (s *Server) resolveConfig(ctx context.Context, q request, dir string, variables, settings map[string]string) (*resolved, error) {
	p := q.project
	if len(s.cfg.Runner.Command) == 0 {
		return nil, errNoRunner
	}
	if err := s.checkout(ctx, p, q.sha, dir, s.cfg.Endpoint+"/"+p.Path+".git"); err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(dir, ".gitlab-ci.yml"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalid{"Missing CI config file"}
	} else if err != nil {
		return nil, fmt.Errorf("reading the configuration of %q: %w", p.Path, err)
	}
	config, problems := applyInputs(config, q.inputs)
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), config, 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %q: %w", p.Path, err)
	}
	if err := writeVariables(dir, settings); err != nil {
		return nil, err
	}
	list, err := s.list(ctx, q.user, dir, configFile, variables, "--fetch-includes")
	if err != nil {
		return nil, s.ofInclude(err, q.user)
	}
	preview, err := s.ciLocal(ctx, q.user, dir, configFile, variables, "--preview", validated)
	if err != nil {
		return nil, err
	}
	preview = after(preview, "---")
	if run, err := s.workflowRuns(ctx, q.user, dir, preview, variables); err != nil {
		return nil, err
	} else if !run {
		return nil, invalid{"Pipeline filtered out by workflow rules."}
	}
	all := maps.Clone(variables)
	maps.Copy(all, settings)
	jobs, stages, err := definitions(list, preview, all, q.merge != nil)
	if err != nil {
		return nil, invalid{err.Error()}
	}
	if len(jobs) == 0 {
		return nil, invalid{"Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline."}
	}
	return &resolved{jobs, stages}, nil
}

// writeVariables puts a project's own variables where gitlab-ci-local reads them, and others do not.
func writeVariables(dir string, settings map[string]string) error {
	kept := map[string]string{}
	for k, v := range settings {
		kept[k] = strings.ReplaceAll(v, "$", "$$")
	}
	data, err := yaml.Marshal(kept)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, settingFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the variables: %w", err)
	}
	return nil
}

func (s *Server) list(ctx context.Context, by int64, dir, file string, variables map[string]string, more ...string) ([]listed, error) {
	out, err := s.ciLocal(ctx, by, dir, file, variables, append(more, "--list-json")...)
	if err != nil {
		return nil, err
	}
	var list []listed
	if err := json.Unmarshal(after(out, "["), &list); err != nil {
		if bytes.Contains(out, []byte("[]")) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the list of jobs: %w", err)
	}
	return list, nil
}

// workflowRuns decides workflow:rules, which gitlab-ci-local reads for their variables only, by asking it about a
// job that has the same rules.
func (s *Server) workflowRuns(ctx context.Context, by int64, dir string, preview []byte, variables map[string]string) (bool, error) {
	var merged map[string]any
	if err := yaml.Unmarshal(preview, &merged); err != nil {
		return false, fmt.Errorf("reading the expanded configuration: %w", err)
	}
	rules, _ := mapOf(merged["workflow"])["rules"].([]any)
	if len(rules) == 0 {
		return true, nil
	}
	var plain []any
	for _, r := range rules {
		kept := map[string]any{}
		for _, key := range []string{"if", "changes", "exists", "when"} {
			if v, ok := mapOf(r)[key]; ok && v != "always" {
				kept[key] = v
			}
		}
		if len(kept) == 0 {
			kept["when"] = "on_success"
		}
		plain = append(plain, kept)
	}
	probe := map[string]any{"workflow rules": map[string]any{"stage": "test", "script": []string{"true"}, "rules": plain}}
	if v, ok := merged["variables"]; ok {
		probe["variables"] = v
	}
	data, err := yaml.Marshal(probe)
	if err != nil {
		return false, fmt.Errorf("writing the workflow rules: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateDir, "workflow.yml"), data, 0o600); err != nil {
		return false, fmt.Errorf("writing the workflow rules: %w", err)
	}
	list, err := s.list(ctx, by, dir, stateDir+"/workflow.yml", variables, validated)
	return err == nil && len(list) == 1 && list[0].When != "never", err
}

// after cuts the warnings that gitlab-ci-local prints before its answer.
func after(out []byte, line string) []byte {
	if bytes.HasPrefix(out, []byte(line+"\n")) {
		return out
	}
	if i := bytes.Index(out, []byte("\n"+line+"\n")); i >= 0 {
		return out[i+1:]
	}
	return out
}

// ciLocalArgs is a gitlab-ci-local command line. Only what is no secret goes onto it: anyone on the machine can
// read it.
func (s *Server) ciLocalArgs(file string, variables map[string]string, more ...string) []string {
	args := append([]string{}, s.cfg.Runner.Command[1:]...)
	args = append(args, more...)
	args = append(args, "--cwd", ".", "--file", file, "--home", s.path("home"), "--ignores-file", stateDir+"/ignore", "--variables-file", settingFile,
		"--force-shell-executor", "--ignore-predefined-vars", strings.Join(keysOf(variables), ","))
	for _, name := range keysOf(variables) {
		args = append(args, "--variable", name+"="+strings.ReplaceAll(variables[name], "$", "$$"))
	}
	if _, branch := variables["CI_COMMIT_BRANCH"]; !branch {
		args = append(args, "--unset-variable", "CI_COMMIT_BRANCH")
	}
	return args
}

// includePassword is what the pipelines of a user fetch their includes with. It opens what the user may read.
func (s *Server) includePassword(by int64) string {
	mac := hmac.New(sha256.New, []byte(s.include))
	_, _ = mac.Write([]byte(id(by)))
	return hex.EncodeToString(mac.Sum(nil))
}

// ofInclude puts it in GitLab's words that there is no such project as an include names, or none that the pipeline's
// user may read: GitLab does not say which. Every other error stays what it is.
func (s *Server) ofInclude(err error, by int64) error {
	var bad invalid
	if !errors.As(err, &bad) {
		return err
	}
	named := regexp.MustCompile(`Project include could not be fetched { project: (.+?), ref: `).FindStringSubmatch(bad.Error())
	if named == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mayFetch(s.projectByPath(named[1]), s.user(by)) == nil {
		return err
	}
	return invalid{"Project `" + named[1] + "` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined."}
}

// ciLocal asks gitlab-ci-local about a configuration of a user's pipeline. A failure is the configuration's, with its
// words.
func (s *Server) ciLocal(ctx context.Context, by int64, dir, file string, variables map[string]string, more ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.cfg.Runner.Command[0], s.ciLocalArgs(file, variables, more...)...)
	cmd.Dir = dir
	login := base64.StdEncoding.EncodeToString([]byte(includeUser + id(by) + ":" + s.includePassword(by)))
	cmd.Env = append(append(s.cfg.jobEnviron(), plainGit()...), "NODE_COMPILE_CACHE="+s.path("node"),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http."+s.cfg.Endpoint+"/.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+login)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return nil, fmt.Errorf("starting gitlab-ci-local: %w", err)
		}
		return nil, invalid{complaint(errs.String())}
	}
	return out.Bytes(), nil
}

// complaint picks the error out of what gitlab-ci-local printed besides it.
func complaint(said string) string {
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]|\x1b\\]8;;[^\x07]*\x07")
	var kept []string
	for _, line := range strings.Split(escapes.ReplaceAllString(said, ""), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "parsing and downloads finished"), strings.HasPrefix(line, "json schema validated"),
			strings.HasPrefix(line, "downloaded "), strings.HasPrefix(line, "Using fallback"), strings.HasPrefix(line, "Command failed with exit code 1: git config"), strings.HasPrefix(line, "at "):
		default:
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
