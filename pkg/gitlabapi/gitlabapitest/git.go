package gitlabapitest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const zeroSHA = "0000000000000000000000000000000000000000"

// preReceive keeps protected refs and hands the push options to the server, which has no other way to learn them.
const preReceive = `#!/bin/sh
i=0
while [ "$i" -lt "${GIT_PUSH_OPTION_COUNT:-0}" ]; do
  eval "option=\$GIT_PUSH_OPTION_$i"
  printf '%s\n' "$option" >>"$SLIPWAY_PUSH_OPTIONS"
  i=$((i + 1))
done
zero=` + zeroSHA + `
set -f
matches() { # matches ref pattern...
  ref=$1
  shift
  for pattern in "$@"; do
    case "$ref" in $pattern) return 0 ;; esac
  done
  return 1
}
while read -r old new ref; do
  matches "$ref" $SLIPWAY_PROTECTED_REFS || continue
  if ! matches "$ref" $SLIPWAY_OPEN_REFS; then
    case "$ref" in
    refs/tags/*) echo "GitLab: You are not allowed to create this tag as it is protected." >&2 ;;
    *) echo "GitLab: You are not allowed to push code to protected branches on this project." >&2 ;;
    esac
    exit 1
  fi
  if [ "$new" = "$zero" ]; then
    echo "GitLab: You can only delete protected branches using the web interface." >&2
    exit 1
  fi
  [ "$old" != "$zero" ] || continue
  case "$ref" in
  refs/tags/*)
    echo "GitLab: Protected tags cannot be updated." >&2
    exit 1
    ;;
  esac
  if ! matches "$ref" $SLIPWAY_REWRITABLE_REFS && ! git merge-base --is-ancestor "$old" "$new"; then
    echo "GitLab: You are not allowed to force push code to a protected branch on this project." >&2
    exit 1
  fi
done
`

func (s *Server) repository(p *project) string {
	return s.path("repositories", filepath.FromSlash(p.Path)+".git")
}

// git runs git in a folder with nothing of this machine's configuration, and returns its output.
func git(ctx context.Context, dir string, stdin []byte, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(append(plainGit(), "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME")), env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running git %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func plainGit() []string {
	return []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0"}
}

func (s *Server) makeRepository(p *project) error {
	hook := s.path("hooks", "pre-receive")
	if err := writeAtomically(hook, []byte(preReceive)); err != nil {
		return fmt.Errorf("writing the pre-receive hook: %w", err)
	}
	if err := os.Chmod(hook, 0o700); err != nil {
		return fmt.Errorf("writing the pre-receive hook: %w", err)
	}
	dir := s.repository(p)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making repository %q: %w", p.Path, err)
	}
	if _, err := git(s.ctx, dir, nil, nil, "init", "--quiet", "--bare", "--initial-branch", p.DefaultBranch); err != nil {
		return fmt.Errorf("making repository %q: %w", p.Path, err)
	}
	for _, kv := range [][2]string{
		{"http.receivepack", "true"}, {"receive.advertisePushOptions", "true"}, {"uploadpack.allowFilter", "true"},
		{"uploadpack.allowAnySHA1InWant", "true"}, {"core.hooksPath", s.path("hooks")}, {"gc.auto", "0"}, {"receive.autogc", "false"},
	} {
		if _, err := git(s.ctx, dir, nil, nil, "config", kv[0], kv[1]); err != nil {
			return fmt.Errorf("configuring repository %q: %w", p.Path, err)
		}
	}
	return nil
}

// refs lists branches and tags with the commits they point to.
func (s *Server) refs(ctx context.Context, p *project) (map[string]string, error) {
	out, err := git(ctx, s.repository(p), nil, nil, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/heads", "refs/tags")
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if f := strings.Fields(line); len(f) >= 2 {
			refs[f[0]] = f[len(f)-1] // an annotated tag's commit comes last
		}
	}
	return refs, nil
}

// resolve finds the commit of a branch, a tag or a commit id, and says whether it is a tag.
func (s *Server) resolve(ctx context.Context, p *project, ref string) (sha string, tag bool, err error) {
	refs, err := s.refs(ctx, p)
	if err != nil {
		return "", false, err
	}
	if sha, ok := refs["refs/heads/"+strings.TrimPrefix(ref, "refs/heads/")]; ok {
		return sha, false, nil
	}
	if sha, ok := refs["refs/tags/"+strings.TrimPrefix(ref, "refs/tags/")]; ok {
		return sha, true, nil
	}
	return "", false, nil
}

// pipelineRef finds what a pipeline is to run on: a branch or a tag by its short or its full name, of which the short
// one has to be the name of one alone. problem says why there is none, in GitLab's words.
func (s *Server) pipelineRef(ctx context.Context, p *project, ref string) (name, sha string, tag bool, problem string, err error) {
	refs, err := s.refs(ctx, p)
	name = strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
	branch, asTag := refs["refs/heads/"+name], refs["refs/tags/"+name]
	switch {
	case err != nil:
		return "", "", false, "", err
	case ref == name && branch != "" && asTag != "":
		return name, "", false, "Ref is ambiguous", nil
	case branch != "" && !strings.HasPrefix(ref, "refs/tags/"):
		return name, branch, false, "", nil
	case asTag != "" && !strings.HasPrefix(ref, "refs/heads/"):
		return name, asTag, true, "", nil
	}
	return name, "", false, "Reference not found", nil
}

// commitish finds the commit of anything git understands as one.
func (s *Server) commitish(ctx context.Context, p *project, name string) (string, error) {
	if name == "" || name == "HEAD" {
		name = p.DefaultBranch
	}
	out, err := git(ctx, s.repository(p), nil, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	return strings.TrimSpace(out), err
}

type commit struct {
	ID             string   `json:"id"`
	ShortID        string   `json:"short_id"`
	ParentIDs      []string `json:"parent_ids"`
	Title          string   `json:"title"`
	Message        string   `json:"message"`
	Stats          any      `json:"stats,omitempty"`
	AuthorName     string   `json:"author_name"`
	AuthorEmail    string   `json:"author_email"`
	AuthoredDate   string   `json:"authored_date"`
	CommitterName  string   `json:"committer_name"`
	CommitterEmail string   `json:"committer_email"`
	CommittedDate  string   `json:"committed_date"`
	CreatedAt      string   `json:"created_at"`
	WebURL         string   `json:"web_url"`

	// GitLab fills these two in where a list is asked for with trailers=true, and nowhere else
	// (gitlab-org/gitlab issues 558984, 505825). Its own client reads no list of values.
	Trailers         map[string]string   `json:"trailers"`
	ExtendedTrailers map[string][]string `json:"extended_trailers"`

	trailerLines string
}

// commits reads up to limit commits from a revision on.
func (s *Server) commits(ctx context.Context, p *project, revision string, limit int, paths ...string) ([]commit, error) {
	args := []string{"log", fmt.Sprintf("--max-count=%d", limit), "--format=%H%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%(trailers:only=true,unfold=true)%x00%B%x01", "--end-of-options", revision, "--"}
	out, err := git(ctx, s.repository(p), nil, nil, append(args, paths...)...)
	if err != nil {
		return nil, err
	}
	var list []commit
	for _, record := range strings.Split(out, "\x01") {
		f := strings.SplitN(strings.TrimLeft(record, "\n"), "\x00", 10)
		if len(f) < 10 {
			continue
		}
		title, _, _ := strings.Cut(f[9], "\n")
		list = append(list, commit{
			ID: f[0], ShortID: f[0][:8], ParentIDs: strings.Fields(f[1]), AuthorName: f[2], AuthorEmail: f[3], AuthoredDate: f[4],
			CommitterName: f[5], CommitterEmail: f[6], CommittedDate: f[7], CreatedAt: f[7], Title: title,
			Message: strings.TrimRight(f[9], "\n") + "\n", WebURL: s.cfg.ExternalURL + "/" + p.Path + "/-/commit/" + f[0],
			Trailers: map[string]string{}, ExtendedTrailers: map[string][]string{}, trailerLines: f[8],
		})
	}
	return list, nil
}

// readTrailers fills in the lines that git takes for trailers: the last of each key, and all of them.
func (c *commit) readTrailers() {
	for _, line := range strings.Split(c.trailerLines, "\n") {
		if key, value, ok := strings.Cut(line, ": "); ok {
			c.Trailers[key], c.ExtendedTrailers[key] = value, append(c.ExtendedTrailers[key], value)
		}
	}
}

func (s *Server) commit(ctx context.Context, p *project, sha string) (commit, error) {
	list, err := s.commits(ctx, p, sha, 1)
	if err != nil {
		return commit{}, err
	}
	if len(list) == 0 {
		return commit{}, fmt.Errorf("reading commit %q: not found", sha)
	}
	return list[0], nil
}
