package gitlabapitest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	prompt     = "<gclShellPromptPlaceholder>"
	reportsDir = ".gitlab-ci-reports"
)

// envScript is sourced by the first shell of a job, through BASH_ENV. gitlab-ci-local starts several shells of its
// own as well; the job's are known by CI_JOB_STATUS, and the after_script's by its value. The job writes its log by
// itself, so that section markers survive, and reports its beginning and end: a job without an end was killed.
const envScript = `if [ -n "${CI_JOB_STATUS:-}" ]; then
unset BASH_ENV
%s
exec >>%s 2>&1
if [ "$CI_JOB_STATUS" = running ]; then
  slipway_spool=%s
  printf 'start %%s\n' "$$" >>"$slipway_spool"
  trap 'printf "end %%s\n" "$?" >>"$slipway_spool"' EXIT
fi
fi
`

func isVarName(s string) bool { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(s) }

// safeName is the name gitlab-ci-local gives to a job's folders.
func safeName(job string) string {
	return regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllStringFunc(job, func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) })
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// writeEnv writes the script that gives a job its variables, of which later ones win. hidden may not stand in its log.
func (s *Server) writeEnv(j *job, hidden []string, variables ...map[string]string) error {
	var exports strings.Builder
	for _, m := range variables {
		for _, name := range keysOf(m) {
			if isVarName(name) {
				fmt.Fprintf(&exports, "export %s=%s\n", name, quote(m[name]))
			}
		}
	}
	list, err := json.Marshal(hidden)
	if err != nil {
		return err
	}
	script := fmt.Sprintf(envScript, exports.String(), quote(s.jobDir(j, "trace")), quote(s.jobDir(j, "spool")))
	for name, content := range map[string]string{"env": script, "secrets.json": string(list), "trace": "", "spool": ""} {
		if err := os.WriteFile(s.jobDir(j, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("preparing job %d: %w", j.ID, err)
		}
	}
	return nil
}

// prepare gives a job the resolved configuration and the artifacts of the jobs before it, and returns the
// variables that those handed over.
func (s *Server) prepare(p *project, pl *pipeline, j *job, dir string, producers []*job) (map[string]string, error) {
	config := s.configDir(pl, p)
	if err := copyTree(filepath.Join(config, stateDir), filepath.Join(dir, stateDir)); err != nil {
		return nil, fmt.Errorf("preparing job %d: %w", j.ID, err)
	}
	dotenv := map[string]string{}
	for _, producer := range producers {
		from := s.artifactsDir(producer)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := copyTree(from, dir, reportsDir); err != nil {
			return nil, fmt.Errorf("preparing job %d: %w", j.ID, err)
		}
		// gitlab-ci-local reads hand-over files here by itself, and warns where there are none.
		if err := copyTree(from, filepath.Join(dir, stateDir, "artifacts", safeName(producer.Definition.Name))); err != nil {
			return nil, fmt.Errorf("preparing job %d: %w", j.ID, err)
		}
		for k, v := range s.dotenvOf(producer) {
			dotenv[k] = v
		}
	}
	return dotenv, nil
}

func (s *Server) artifactsDir(j *job) string {
	return filepath.Join(s.buildDir(j.Pipeline), "artifacts", id(j.ID))
}

// collect keeps what a job has exported, and checks its hand-over files by GitLab's rules, which are stricter than
// those of the program that ran it.
func (s *Server) collect(j *job, dir string, succeeded bool) error {
	from := filepath.Join(dir, stateDir, "artifacts", safeName(j.Definition.Name))
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) || !succeeded && j.Definition.ArtifactsWhen != "always" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.artifactsDir(j)), 0o700); err != nil {
		return fmt.Errorf("keeping artifacts: %w", err)
	}
	if err := os.Rename(from, s.artifactsDir(j)); err != nil {
		return fmt.Errorf("keeping artifacts: %w", err)
	}
	for _, file := range j.Definition.Dotenv {
		data, err := os.ReadFile(filepath.Join(s.artifactsDir(j), reportsDir, "dotenv", filepath.FromSlash(file)))
		if err != nil {
			continue // a report that was not written is a warning on GitLab
		}
		if _, err := parseDotenv(string(data)); err != nil {
			return fmt.Errorf("uploading dotenv report %q: 400 Bad Request: %w", file, err)
		}
	}
	return nil
}

func parseDotenv(data string) (map[string]string, error) {
	if len(data) > 5<<10 {
		return nil, errors.New("dotenv artifact too big, the limit is 5 KiB")
	}
	out := map[string]string{}
	assignment := regexp.MustCompile(`^([A-Za-z0-9_]+)=(.*)$`)
	for _, line := range strings.Split(strings.TrimSuffix(data, "\n"), "\n") {
		m := assignment.FindStringSubmatch(line)
		if m == nil && data != "" {
			return nil, fmt.Errorf("invalid format: %q is not NAME=value", line)
		} else if m != nil {
			out[m[1]] = strings.TrimSpace(m[2])
		}
	}
	return out, nil
}

func (s *Server) dotenvOf(j *job) map[string]string {
	out := map[string]string{}
	for _, file := range j.Definition.Dotenv {
		data, err := os.ReadFile(filepath.Join(s.artifactsDir(j), reportsDir, "dotenv", filepath.FromSlash(file)))
		if err != nil {
			continue
		}
		if vars, err := parseDotenv(string(data)); err == nil {
			for k, v := range vars {
				out[k] = v
			}
		}
	}
	return out
}

// copyTree copies files over a folder, links as links, without the names in skip at its top.
func copyTree(from, to string, skip ...string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains(skip, rel) {
			return filepath.SkipDir
		}
		target := filepath.Join(to, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_ = os.Remove(target)
			return os.Symlink(link, target)
		case !info.Mode().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}

// trace is a job's log as its reader may see it: without the job's secrets.
func (s *Server) trace(j *job, secrets []string) string {
	data, err := os.ReadFile(s.jobDir(j, "trace"))
	if err != nil {
		return ""
	}
	out := string(data)
	for _, secret := range secrets {
		if len(secret) >= 8 {
			out = strings.ReplaceAll(out, secret, "[MASKED]")
		}
	}
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		if said, ok := strings.CutPrefix(line, prompt); ok {
			lines[i] = "\x1b[32;1m$" + said + "\x1b[0;m"
		}
	}
	return strings.Join(lines, "\n")
}

func (s *Server) note(j *job, line string) {
	f, err := os.OpenFile(s.jobDir(j, "trace"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = f.WriteString(line + "\n")
	_ = f.Close()
}

// closeTrace writes the last line of a log and rewrites the file without secrets; the caller holds the lock.
func (s *Server) closeTrace(j *job, r *run, status, reason string, o outcome, bad error) {
	if !o.began && status == "failed" {
		if said, err := os.ReadFile(s.jobDir(j, "runner.log")); err == nil && len(said) > 0 {
			s.note(j, complaint(string(said)))
		}
	}
	last := "\x1b[31;1mERROR: Job failed: "
	switch {
	case status == "success":
		last = "\x1b[32;1mJob succeeded"
	case status == "canceled":
		last = "\x1b[31;1mERROR: Job canceled"
	case bad != nil:
		last += bad.Error()
	case reason != "script_failure":
		last += reason
	case o.code == nil:
		last += "the job's shell was killed"
	default:
		last += fmt.Sprintf("exit code %d", *o.code)
	}
	s.note(j, last+"\x1b[0;m")
	_ = writeAtomically(s.jobDir(j, "trace"), []byte(s.trace(j, r.secrets)))
}
