package gitlabapitest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"
)

func fileEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/projects/:id/repository/commits", false, 0, (*call).listCommits},
		{"GET", "/projects/:id/repository/commits/:sha", true, 0, (*call).getCommit},
		{"POST", "/projects/:id/repository/commits", false, developer, (*call).createCommit},
		{"GET", "/projects/:id/repository/files/:file", false, 0, (*call).getFile},
		{"POST", "/projects/:id/repository/files/:file", false, developer, func(c *call) *failure { return c.changeFile("create") }},
		{"PUT", "/projects/:id/repository/files/:file", false, developer, func(c *call) *failure { return c.changeFile("update") }},
		{"DELETE", "/projects/:id/repository/files/:file", false, developer, func(c *call) *failure { return c.changeFile("delete") }},
		{"GET", "/projects/:id/repository/files/:file/raw", true, 0, (*call).rawFile},
		{"GET", "/projects/:id/repository/tree", false, 0, (*call).listTree},
		{"GET", "/projects/:id/repository/compare", false, 0, (*call).compare},
		{"GET", "/projects/:id/repository/merge_base", false, 0, (*call).mergeBase},
	}
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
	all, err := c.s.commits(c.r.Context(), c.project, sha, 1000, paths...)
	if err != nil {
		return failInternal(err)
	}
	if q.Get("trailers") == "true" {
		for i := range all {
			all[i].readTrailers()
		}
	}
	return c.answer(page(c.w, c.r, all))
}

func (c *call) getCommit() *failure {
	sha, err := c.s.commitish(c.r.Context(), c.project, c.r.PathValue("sha"))
	if err != nil {
		return notFound("Commit")
	}
	made, f := c.commitDetail(sha, c.r.URL.Query().Get("stats") != "false")
	if f != nil {
		return f
	}
	return c.answer(made)
}

// file is a file at a commit.
type file struct {
	ref, commit, last, blob, content string
	executable                       bool
}

// file reads the file in the path, and says in the headers what it is.
func (c *call) file() (file, *failure) {
	ctx, repo, name := c.r.Context(), c.s.repository(c.project), c.r.PathValue("file")
	one := file{ref: c.r.URL.Query().Get("ref")}
	var err error
	if one.commit, err = c.s.commitish(ctx, c.project, one.ref); err != nil {
		return one, notFound("Commit")
	}
	if !isFilePath(name) {
		return one, failKey(http.StatusBadRequest, "error", "file_path should be a valid file path")
	}
	out, err := git(ctx, repo, nil, nil, "ls-tree", one.commit, "--", ":(literal)"+name)
	f := strings.Fields(out)
	if err != nil || len(f) < 3 || f[1] != "blob" {
		return one, notFound("File")
	}
	one.executable, one.blob = f[0] == "100755", f[2]
	if one.content, err = git(ctx, repo, nil, nil, "cat-file", "blob", one.blob); err != nil {
		return one, failInternal(err)
	}
	last, err := c.s.commits(ctx, c.project, one.commit, 1, ":(literal)"+name)
	if err != nil {
		return one, failInternal(err)
	}
	if len(last) > 0 {
		one.last = last[0].ID
	}
	sum := sha256.Sum256([]byte(one.content))
	for header, value := range map[string]string{"Blob-Id": one.blob, "Commit-Id": one.commit, "Content-Sha256": hex.EncodeToString(sum[:]), "Encoding": "base64",
		"Execute-Filemode": strconv.FormatBool(one.executable), "File-Name": path.Base(name), "File-Path": name, "Last-Commit-Id": one.last, "Ref": one.ref, "Size": strconv.Itoa(len(one.content))} {
		c.w.Header().Set("X-Gitlab-"+header, value)
	}
	return one, nil
}

func (c *call) getFile() *failure {
	if f := missing(c.query(), "ref"); f != nil {
		return f
	}
	one, f := c.file()
	if f != nil {
		return f
	}
	name, h := c.r.PathValue("file"), c.w.Header()
	return c.answer(map[string]any{"file_name": path.Base(name), "file_path": name, "size": len(one.content), "encoding": "base64", "execute_filemode": one.executable,
		"content": base64.StdEncoding.EncodeToString([]byte(one.content)), "content_sha256": h.Get("X-Gitlab-Content-Sha256"), "ref": one.ref, "blob_id": one.blob,
		"commit_id": one.commit, "last_commit_id": one.last})
}

func (c *call) query() map[string]any {
	out := map[string]any{}
	for k := range c.r.URL.Query() {
		out[k] = c.r.URL.Query().Get(k)
	}
	return out
}

func (c *call) rawFile() *failure {
	one, f := c.file()
	if f != nil {
		return f
	}
	c.w.Header().Set("Content-Type", "text/plain")
	_, _ = c.w.Write([]byte(one.content))
	return nil
}

// changeFile makes a commit of one action.
func (c *call) changeFile(kind string) *failure {
	required := []string{"branch", "commit_message", "content"}
	if kind == "delete" {
		required = required[:2]
	}
	p, f := c.body(required...)
	if f != nil {
		return f
	}
	a := actionOf(p)
	a.kind, a.file = kind, c.r.PathValue("file")
	if !isFilePath(a.file) {
		return failKey(http.StatusBadRequest, "error", "file_path should be a valid file path")
	}
	if _, f = c.write(c.changeOf(p, []action{a})); f != nil {
		return f
	}
	switch kind {
	case "delete":
		c.w.WriteHeader(http.StatusNoContent)
	case "create":
		reply(c.w, http.StatusCreated, map[string]string{"file_path": a.file, "branch": text(p, "branch")})
	default:
		return c.answer(map[string]string{"file_path": a.file, "branch": text(p, "branch")})
	}
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
	all := []map[string]string{}
	for _, line := range strings.Split(strings.TrimRight(out, "\x00"), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) < 3 {
			continue
		}
		full := strings.TrimPrefix(folder+"/"+name, "/")
		all = append(all, map[string]string{"id": f[2], "name": full[strings.LastIndex(full, "/")+1:], "type": f[1], "path": full, "mode": f[0]})
	}
	return c.answer(keyset(c.w, c.r, all, func(m map[string]string) string { return m["path"] }))
}

// compare shows what is between two commits: from their merge base on, unless straight.
func (c *call) compare() *failure {
	q := c.query()
	if f := missing(q, "from", "to"); f != nil {
		return f
	}
	ctx, repo := c.r.Context(), c.s.repository(c.project)
	from, ferr := c.s.commitish(ctx, c.project, text(q, "from"))
	to, terr := c.s.commitish(ctx, c.project, text(q, "to"))
	if ferr != nil || terr != nil {
		return notFound("Ref")
	}
	dots := "..."
	if truth(q, "straight") {
		dots = ".."
	}
	commits, err := c.s.commits(ctx, c.project, from+".."+to, 1000)
	if err != nil {
		return failInternal(err)
	}
	out, err := git(ctx, repo, nil, nil, "diff", "--raw", "--no-abbrev", "--no-renames", "-z", from+dots+to)
	if err != nil {
		return failInternal(err)
	}
	diffs := []map[string]any{}
	fields := strings.Split(strings.TrimRight(out, "\x00"), "\x00")
	for n := 0; n+1 < len(fields); n += 2 {
		f, name := strings.Fields(strings.TrimPrefix(fields[n], ":")), fields[n+1]
		shown, err := git(ctx, repo, nil, nil, "diff", "--no-renames", from+dots+to, "--", ":(literal)"+name)
		if err != nil || len(f) < 5 {
			return failInternal(err)
		}
		_, hunks, _ := strings.Cut(shown, "\n@@")
		diffs = append(diffs, map[string]any{"diff": "@@" + hunks, "new_path": name, "old_path": name, "a_mode": f[0], "b_mode": f[1],
			"new_file": f[4] == "A", "deleted_file": f[4] == "D", "renamed_file": false})
	}
	body := map[string]any{"commit": nil, "commits": commits, "diffs": diffs, "compare_timeout": false, "compare_same_ref": from == to,
		"web_url": c.s.cfg.ExternalURL + "/" + c.project.Path + "/-/compare/" + text(q, "from") + dots + text(q, "to")}
	if len(commits) > 0 {
		body["commit"] = commits[0]
	} else {
		body["commits"] = []any{}
	}
	return c.answer(body)
}

func (c *call) mergeBase() *failure {
	refs := c.r.URL.Query()["refs[]"]
	if len(refs) < 2 {
		return failKey(http.StatusBadRequest, "error", "refs is missing")
	}
	args := []string{"merge-base"}
	for _, ref := range refs {
		sha, err := c.s.commitish(c.r.Context(), c.project, ref)
		if err != nil {
			return fail(http.StatusBadRequest, "400 Bad request - Could not find ref: "+ref)
		}
		args = append(args, sha)
	}
	out, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, args...)
	if err != nil {
		return notFound("Merge Base")
	}
	made, err := c.s.commit(c.r.Context(), c.project, strings.TrimSpace(out))
	if err != nil {
		return failInternal(err)
	}
	return c.answer(made)
}
