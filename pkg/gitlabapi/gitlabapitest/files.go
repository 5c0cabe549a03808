package gitlabapitest

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func (c *call) branch(name, sha string) (map[string]any, error) {
	made, err := c.s.commit(c.r.Context(), c.project, sha)
	return map[string]any{
		"name": name, "commit": made, "protected": c.project.protects(name, false), "default": name == c.project.DefaultBranch,
		"merged": false, "can_push": c.s.person(c.caller).atLeast(developer),
	}, err
}

func (c *call) listBranches() *failure {
	refs, err := c.s.refs(c.r.Context(), c.project)
	if err != nil {
		return failInternal(err)
	}
	list := []map[string]any{}
	for _, full := range keysOf(refs) {
		name, ok := strings.CutPrefix(full, "refs/heads/")
		if !ok || !strings.Contains(name, c.r.URL.Query().Get("search")) {
			continue
		}
		b, err := c.branch(name, refs[full])
		if err != nil {
			return failInternal(err)
		}
		list = append(list, b)
	}
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func (c *call) getBranch() *failure {
	refs, err := c.s.refs(c.r.Context(), c.project)
	if err != nil {
		return failInternal(err)
	}
	name := c.r.PathValue("branch")
	sha, ok := refs["refs/heads/"+name]
	if !ok {
		return notFound("Branch")
	}
	b, err := c.branch(name, sha)
	if err != nil {
		return failInternal(err)
	}
	reply(c.w, http.StatusOK, b)
	return nil
}

func (c *call) listCommits() *failure {
	q := c.r.URL.Query()
	sha, err := c.s.commitish(c.r.Context(), c.project, q.Get("ref_name"))
	if err != nil {
		return notFound("Reference")
	}
	var paths []string
	if p := q.Get("path"); p != "" {
		paths = []string{p}
	}
	list, err := c.s.commits(c.r.Context(), c.project, sha, 1000, paths...)
	if err != nil {
		return failInternal(err)
	}
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func (c *call) getCommit() *failure {
	sha, err := c.s.commitish(c.r.Context(), c.project, c.r.PathValue("sha"))
	if err != nil {
		return notFound("Commit")
	}
	made, err := c.s.commit(c.r.Context(), c.project, sha)
	if err != nil {
		return failInternal(err)
	}
	reply(c.w, http.StatusOK, made)
	return nil
}

func (c *call) rawFile() *failure {
	sha, err := c.s.commitish(c.r.Context(), c.project, c.r.URL.Query().Get("ref"))
	if err != nil {
		return notFound("Commit")
	}
	content, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, "cat-file", "blob", sha+":"+c.r.PathValue("file"))
	if err != nil {
		return notFound("File")
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("X-Gitlab-Commit-Id", sha)
	h.Set("X-Gitlab-File-Path", c.r.PathValue("file"))
	h.Set("X-Gitlab-Ref", c.r.URL.Query().Get("ref"))
	_, _ = c.w.Write([]byte(content))
	return nil
}

func (c *call) listTree() *failure {
	q := c.r.URL.Query()
	sha, err := c.s.commitish(c.r.Context(), c.project, q.Get("ref"))
	if err != nil {
		return notFound("Tree")
	}
	args := []string{"ls-tree", "-z"}
	if q.Get("recursive") == "true" {
		args = append(args, "-r", "-t")
	}
	folder := strings.Trim(q.Get("path"), "/")
	out, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, append(args, sha+":"+folder)...)
	if err != nil {
		return notFound("invalid revision or path")
	}
	list := []map[string]string{}
	for _, line := range strings.Split(strings.TrimRight(out, "\x00"), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) < 3 {
			continue
		}
		full := strings.TrimPrefix(folder+"/"+name, "/")
		list = append(list, map[string]string{"id": f[2], "name": full[strings.LastIndex(full, "/")+1:], "type": f[1], "path": full, "mode": f[0]})
	}
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

// createCommit makes a commit of whole files, as one step: a branch that moved in between is an error.
func (c *call) createCommit() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "branch", "commit_message")
	}
	if f != nil {
		return f
	}
	branch := text(p, "branch")
	if c.project.protects(branch, false) && !c.caller.user.atLeast(maintainer) {
		return fail(http.StatusForbidden, "403 Forbidden - You are not allowed to push into this branch")
	}
	actions, _ := p["actions"].([]any)
	lock := c.s.pushLock(c.project)
	lock.Lock()
	before, sha, f := c.writeCommit(c.r.Context(), branch, p, actions)
	lock.Unlock()
	if f != nil {
		return f
	}
	made, err := c.s.commit(c.r.Context(), c.project, sha)
	if err != nil {
		return failInternal(err)
	}
	_, _ = c.s.newPipeline(c.s.ctx, request{project: c.project, ref: branch, sha: sha, before: before, source: "push", user: c.caller.user.ID})
	reply(c.w, http.StatusCreated, made)
	return nil
}

func (c *call) writeCommit(ctx context.Context, branch string, p map[string]any, actions []any) (before, after string, f *failure) {
	repo := c.s.repository(c.project)
	dir, err := os.MkdirTemp("", "commit")
	if err != nil {
		return "", "", failInternal(err)
	}
	defer os.RemoveAll(dir)
	author, email := c.caller.user.Name, c.caller.user.Email
	if v := text(p, "author_name"); v != "" {
		author = v
	}
	if v := text(p, "author_email"); v != "" {
		email = v
	}
	// git updates no index without a work tree; an empty folder will do, since nothing is ever read from it.
	env := []string{"GIT_DIR=" + repo, "GIT_WORK_TREE=" + dir, "GIT_INDEX_FILE=" + dir + "/index", "GIT_AUTHOR_NAME=" + author, "GIT_AUTHOR_EMAIL=" + email,
		"GIT_COMMITTER_NAME=" + c.caller.user.Name, "GIT_COMMITTER_EMAIL=" + c.caller.user.Email}
	refs, err := c.s.refs(ctx, c.project)
	if err != nil {
		return "", "", failInternal(err)
	}
	before = refs["refs/heads/"+branch]
	parent := before
	if start := text(p, "start_branch"); parent == "" && start != "" {
		parent = refs["refs/heads/"+start]
	}
	if parent == "" && len(refs) > 0 {
		return "", "", fail(http.StatusBadRequest, "You can only create or edit files when you are on a branch")
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
	for _, a := range actions {
		if f := c.stage(ctx, repo, env, parent, a); f != nil {
			return "", "", f
		}
	}
	written, err := git(ctx, repo, nil, env, "write-tree")
	if err != nil {
		return "", "", failInternal(err)
	}
	out, err := git(ctx, repo, []byte(text(p, "commit_message")), env, append(commitArgs, strings.TrimSpace(written))...)
	if err != nil {
		return "", "", failInternal(err)
	}
	after = strings.TrimSpace(out)
	old := before
	if old == "" {
		old = zeroSHA
	}
	if _, err := git(ctx, repo, nil, nil, "update-ref", "refs/heads/"+branch, after, old); err != nil {
		return "", "", fail(http.StatusBadRequest, "Could not update branch "+branch+". Please refresh and try again.")
	}
	return before, after, nil
}

func (c *call) stage(ctx context.Context, repo string, env []string, parent string, raw any) *failure {
	a, _ := raw.(map[string]any)
	action, file := text(a, "action"), strings.TrimPrefix(text(a, "file_path"), "/")
	if file == "" || strings.Contains("/"+file+"/", "/../") || strings.Contains("/"+file+"/", "/.git/") {
		return fail(http.StatusBadRequest, "file_path is not valid")
	}
	_, missingErr := git(ctx, repo, nil, env, "ls-files", "--error-unmatch", "--cached", "--", file)
	exists := missingErr == nil
	if last := text(a, "last_commit_id"); last != "" && parent != "" {
		now, err := c.s.commits(ctx, c.project, parent, 1, file)
		if err != nil {
			return failInternal(err)
		}
		if len(now) > 0 && now[0].ID != last {
			return fail(http.StatusBadRequest, "You are attempting to update a file that has changed since you started editing it.")
		}
	}
	content := []byte(text(a, "content"))
	if text(a, "encoding") == "base64" {
		var err error
		if content, err = base64.StdEncoding.DecodeString(string(content)); err != nil {
			return fail(http.StatusBadRequest, "content is not valid base64")
		}
	}
	switch {
	case action == "create" && exists:
		return fail(http.StatusBadRequest, "A file with this name already exists")
	case (action == "update" || action == "delete") && !exists:
		return fail(http.StatusBadRequest, "A file with this name doesn't exist")
	case action == "delete":
		if _, err := git(ctx, repo, nil, env, "update-index", "--force-remove", "--", file); err != nil {
			return failInternal(err)
		}
		return nil
	case action != "create" && action != "update":
		return failKey(http.StatusBadRequest, "error", fmt.Sprintf("actions[action] %q does not have a valid value", action))
	}
	mode := "100644"
	if truth(a, "execute_filemode") {
		mode = "100755"
	}
	out, err := git(ctx, repo, content, env, "hash-object", "-w", "--stdin")
	if err == nil {
		_, err = git(ctx, repo, nil, env, "update-index", "--add", "--cacheinfo", mode+","+strings.TrimSpace(out)+","+file)
	}
	if err != nil {
		return failInternal(err)
	}
	return nil
}
