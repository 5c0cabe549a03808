package gitlabapitest

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// change is a commit to be made over the API.
type change struct {
	branch, message, author, email string
	startBranch, startSHA          string
	force                          bool
	actions                        []action
}

type action struct {
	kind, file, previous, last string
	content                    *string
	base64                     bool
	executable                 *bool
}

// changeOf reads a commit's parameters; the actions are those of the call.
func (c *call) changeOf(p map[string]any, actions []action) change {
	u := c.person()
	ch := change{branch: text(p, "branch"), message: text(p, "commit_message"), author: u.Name, email: u.Email,
		startBranch: text(p, "start_branch"), startSHA: text(p, "start_sha"), force: truth(p, "force"), actions: actions}
	for key, field := range map[string]*string{"author_name": &ch.author, "author_email": &ch.email} {
		if v := text(p, key); v != "" {
			*field = v
		}
	}
	return ch
}

func actionOf(m map[string]any) action {
	a := action{kind: text(m, "action"), file: text(m, "file_path"), previous: text(m, "previous_path"), last: text(m, "last_commit_id"), base64: text(m, "encoding") == "base64"}
	if _, ok := m["content"]; ok {
		a.content = ptr(text(m, "content"))
	}
	if _, ok := m["execute_filemode"]; ok {
		a.executable = ptr(truth(m, "execute_filemode"))
	}
	return a
}

func (c *call) createCommit() *failure {
	p, f := c.body("branch", "commit_message", "actions")
	if f != nil {
		return f
	}
	if text(p, "start_project") != "" {
		return fail(http.StatusBadRequest, "400 Bad request - commits from another project are not made by this server")
	}
	raw, _ := p["actions"].([]any)
	var actions []action
	for n, one := range raw {
		a := actionOf(mapOf(one))
		at := fmt.Sprintf("actions[%d]", n)
		switch {
		case a.kind != "create" && a.kind != "update" && a.kind != "delete" && a.kind != "move" && a.kind != "chmod":
			return failKey(http.StatusBadRequest, "error", at+"[action] does not have a valid value")
		case a.file == "":
			return failKey(http.StatusBadRequest, "error", at+"[file_path] is missing")
		case !isFilePath(a.file):
			return failKey(http.StatusBadRequest, "error", at+"[file_path] should be a valid file path")
		case a.previous != "" && !isFilePath(a.previous):
			return failKey(http.StatusBadRequest, "error", at+"[previous_path] should be a valid file path")
		case a.kind == "chmod" && a.executable == nil:
			return failKey(http.StatusBadRequest, "error", at+"[execute_filemode] is missing")
		}
		actions = append(actions, a)
	}
	sha, f := c.write(c.changeOf(p, actions))
	if f != nil {
		return f
	}
	made, f := c.commitDetail(sha, text(p, "stats") != "false")
	if f != nil {
		return f
	}
	reply(c.w, http.StatusCreated, made)
	return nil
}

// commitDetail is a commit that was asked for by itself: with its project and what its newest pipeline says of it.
type commitDetail struct {
	commit
	ProjectID    int64          `json:"project_id"`
	Status       any            `json:"status"`
	LastPipeline map[string]any `json:"last_pipeline"`
}

func (c *call) commitDetail(sha string, stats bool) (commitDetail, *failure) {
	made, err := c.s.commit(c.r.Context(), c.project, sha)
	if err == nil && stats {
		made.Stats, err = c.s.stats(c.r.Context(), c.project, sha)
	}
	if err != nil {
		return commitDetail{}, failInternal(err)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	detail := commitDetail{commit: made, ProjectID: c.project.ID}
	all := sorted(c.s.st.Pipelines, func(pl *pipeline) bool { return pl.Project == c.project.ID && pl.SHA == sha })
	if len(all) > 0 {
		newest := all[len(all)-1]
		detail.Status, detail.LastPipeline = newest.Status, c.s.basicPipelineJSON(newest)
	}
	return detail, nil
}

// isFilePath refuses what git would not take, and what would leave the tree.
func isFilePath(s string) bool {
	padded := "/" + strings.ToLower(s) + "/"
	return s != "" && len(s) < 1024 && !strings.HasPrefix(s, "/") && !strings.Contains(padded, "/../") && !strings.Contains(padded, "/./") &&
		!strings.Contains(padded, "/.git/") && !strings.Contains(s, "//") && !strings.ContainsAny(s, "\x00\n")
}

// write makes a commit as one step: a branch that moved in between is an error.
func (c *call) write(ch change) (string, *failure) {
	c.s.mu.Lock()
	u, protections := c.person(), c.project.protections(ch.branch, false)
	may := c.project.mayPush(u, ch.branch, false)
	c.s.mu.Unlock()
	switch {
	case !may:
		return "", fail(http.StatusForbidden, "403 Forbidden - You are not allowed to push into this branch")
	case ch.startBranch != "" && ch.startSHA != "":
		return "", failKey(http.StatusBadRequest, "error", "start_branch, start_sha are mutually exclusive")
	case ch.force && len(protections) > 0 && !protections[0].AllowForcePush:
		return "", fail(http.StatusForbidden, "403 Forbidden - You are not allowed to force push into this branch")
	}
	lock := c.s.pushLock(c.project)
	lock.Lock()
	before, after, f := c.writeCommit(c.r.Context(), ch)
	lock.Unlock()
	if f != nil {
		return "", f
	}
	c.s.pushed(c.project, "refs/heads/"+ch.branch, before, after, u.ID, pushOptions{})
	return after, nil
}

// parents finds what the commit is made upon, and what the branch pointed to.
func (c *call) parents(ctx context.Context, ch change) (before, parent string, f *failure) {
	refs, err := c.s.refs(ctx, c.project)
	if err != nil {
		return "", "", failInternal(err)
	}
	before = refs["refs/heads/"+ch.branch]
	start := ch.startSHA
	if ch.startBranch != "" {
		start = refs["refs/heads/"+ch.startBranch]
		if start == "" {
			return "", "", fail(http.StatusBadRequest, "Cannot find start branch '"+ch.startBranch+"'")
		}
	} else if start != "" {
		if start, err = c.s.commitish(ctx, c.project, start); err != nil {
			return "", "", fail(http.StatusBadRequest, "Cannot find start SHA '"+ch.startSHA+"'")
		}
	}
	switch {
	case before == "" && start == "" && len(refs) > 0:
		return "", "", fail(http.StatusBadRequest, "You can only create or edit files when you are on a branch")
	case before != "" && start != "" && !ch.force && ch.startBranch != ch.branch:
		return "", "", fail(http.StatusBadRequest, "A branch called '"+ch.branch+"' already exists. Switch to that branch in order to make changes")
	case start != "":
		return before, start, nil
	}
	return before, before, nil
}

func (c *call) writeCommit(ctx context.Context, ch change) (before, after string, f *failure) {
	repo := c.s.repository(c.project)
	dir, err := os.MkdirTemp("", "commit")
	if err != nil {
		return "", "", failInternal(err)
	}
	defer os.RemoveAll(dir)
	u := c.person()
	// git updates no index without a work tree; an empty folder will do, since nothing is ever read from it.
	env := append([]string{"GIT_DIR=" + repo, "GIT_WORK_TREE=" + dir, "GIT_INDEX_FILE=" + dir + "/index"}, identity(ch.author, ch.email, u)...)
	before, parent, f := c.parents(ctx, ch)
	if f != nil {
		return "", "", f
	}
	tree := []string{"read-tree", "--empty"}
	commitArgs := []string{"commit-tree"}
	if parent != "" {
		tree = []string{"read-tree", parent}
		commitArgs = append(commitArgs, "-p", parent)
	}
	if _, err := git(ctx, repo, nil, env, tree...); err != nil {
		return "", "", failInternal(err)
	}
	st := stage{c: c, ctx: ctx, repo: repo, env: env, parent: parent}
	for _, a := range ch.actions {
		if f := st.apply(a); f != nil {
			return "", "", f
		}
	}
	written, err := git(ctx, repo, nil, env, "write-tree")
	if err != nil {
		return "", "", failInternal(err)
	}
	out, err := git(ctx, repo, []byte(ch.message), env, append(commitArgs, strings.TrimSpace(written))...)
	if err != nil {
		return "", "", failInternal(err)
	}
	after = strings.TrimSpace(out)
	if err := c.s.move(ctx, c.project, "refs/heads/"+ch.branch, before, after); err != nil {
		return "", "", fail(http.StatusBadRequest, "Could not update "+ch.branch+". Please refresh and try again.")
	}
	return before, after, nil
}

func identity(author, email string, committer user) []string {
	return []string{"GIT_AUTHOR_NAME=" + author, "GIT_AUTHOR_EMAIL=" + email, "GIT_COMMITTER_NAME=" + committer.Name, "GIT_COMMITTER_EMAIL=" + committer.Email}
}

// move points a ref at a commit, if it still points to where it did ("" for nowhere).
func (s *Server) move(ctx context.Context, p *project, ref, before, after string) error {
	if before == "" {
		before = zeroSHA
	}
	_, err := git(ctx, s.repository(p), nil, nil, "update-ref", ref, after, before)
	return err
}

// stage is the index of a commit that is being made.
type stage struct {
	c      *call
	ctx    context.Context
	repo   string
	env    []string
	parent string
}

func (st stage) git(stdin []byte, args ...string) (string, error) {
	out, err := git(st.ctx, st.repo, stdin, st.env, args...)
	return strings.TrimSpace(out), err
}

// entry is the mode and blob of a file in the index.
func (st stage) entry(file string) (mode, blob string, ok bool) {
	out, err := st.git(nil, "ls-files", "--stage", "--error-unmatch", "--", ":(literal)"+file)
	f := strings.Fields(out)
	if err != nil || len(f) < 3 {
		return "", "", false
	}
	return f[0], f[1], true
}

func (st stage) put(mode, blob, file string) error {
	_, err := st.git(nil, "update-index", "--add", "--cacheinfo", mode+","+blob+","+file)
	return err
}

// changedSince says whether a file was last changed by another commit than the one its editor began with.
func (st stage) changedSince(file, last string) (bool, error) {
	if last == "" || st.parent == "" {
		return false, nil
	}
	now, err := st.c.s.commits(st.ctx, st.c.project, st.parent, 1, ":(literal)"+file)
	return len(now) > 0 && now[0].ID != last, err
}

func (st stage) apply(a action) *failure {
	subject := a.file
	if a.kind == "move" {
		if a.previous == "" {
			return fail(http.StatusBadRequest, "You must supply the original file path when moving file `"+a.file+"`.")
		}
		subject = a.previous
	}
	mode, blob, exists := st.entry(subject)
	_, _, taken := st.entry(a.file)
	changed, err := st.changedSince(subject, a.last)
	switch {
	case err != nil:
		return failInternal(err)
	case taken && (a.kind == "create" || a.kind == "move"):
		return fail(http.StatusBadRequest, "A file with this name already exists")
	case !exists && a.kind != "create":
		return fail(http.StatusBadRequest, "A file with this name doesn't exist")
	case changed && a.kind != "create" && a.kind != "chmod":
		return fail(http.StatusBadRequest, "You are attempting to "+a.kind+" a file `"+subject+"` that has changed since you started editing it.")
	}
	if a.kind == "delete" || a.kind == "move" {
		if _, err := st.git(nil, "update-index", "--force-remove", "--", subject); err != nil {
			return failInternal(err)
		}
	}
	if a.kind == "delete" {
		return nil
	}
	if a.kind == "create" {
		mode = "100644"
	}
	if a.executable != nil {
		mode = map[bool]string{true: "100755", false: "100644"}[*a.executable]
	}
	if a.content != nil && a.kind != "chmod" || a.kind == "create" || a.kind == "update" {
		var f *failure
		if blob, f = st.blob(a); f != nil {
			return f
		}
	}
	if err := st.put(mode, blob, a.file); err != nil {
		return fail(http.StatusBadRequest, "A file with this name already exists") // a folder of that name, or a file that should be one
	}
	return nil
}

func (st stage) blob(a action) (string, *failure) {
	var content []byte
	if a.content != nil {
		content = []byte(*a.content)
	}
	if a.base64 {
		var err error
		if content, err = base64.StdEncoding.DecodeString(string(content)); err != nil {
			return "", fail(http.StatusBadRequest, "Invalid base64 content")
		}
	}
	blob, err := st.git(content, "hash-object", "-w", "--stdin")
	if err != nil {
		return "", failInternal(err)
	}
	return blob, nil
}

// stats counts the lines a commit adds and deletes.
func (s *Server) stats(ctx context.Context, p *project, sha string) (map[string]int, error) {
	out, err := git(ctx, s.repository(p), nil, nil, "diff-tree", "--root", "--numstat", "--no-commit-id", "-r", sha)
	if err != nil {
		return nil, err
	}
	added, deleted := 0, 0
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) >= 3 {
			a, _ := strconv.Atoi(f[0]) // "-" for a binary file
			d, _ := strconv.Atoi(f[1])
			added, deleted = added+a, deleted+d
		}
	}
	return map[string]int{"additions": added, "deletions": deleted, "total": added + deleted}, nil
}
