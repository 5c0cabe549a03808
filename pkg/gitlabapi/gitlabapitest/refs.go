package gitlabapitest

import (
	"net/http"
	"slices"
	"strings"
)

func refEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/projects/:id/repository/branches", true, 0, (*call).listBranches},
		{"POST", "/projects/:id/repository/branches", false, developer, (*call).createBranch},
		{"GET", "/projects/:id/repository/branches/:branch", true, 0, (*call).getBranch},
		{"DELETE", "/projects/:id/repository/branches/:branch", false, developer, (*call).deleteBranch},
		{"GET", "/projects/:id/repository/tags", true, 0, (*call).listTags},
		{"POST", "/projects/:id/repository/tags", false, developer, (*call).createTag},
		{"GET", "/projects/:id/repository/tags/:tag", true, 0, (*call).getTag},
		{"DELETE", "/projects/:id/repository/tags/:tag", false, developer, (*call).deleteTag},
	}
}

// named is a branch or a tag.
type named struct{ name, sha string }

// named lists the branches or tags of the project, by name.
func (c *call) named(prefix string) ([]named, *failure) {
	refs, err := c.s.refs(c.r.Context(), c.project)
	if err != nil {
		return nil, failInternal(err)
	}
	var all []named
	for _, full := range keysOf(refs) {
		if name, ok := strings.CutPrefix(full, prefix); ok && searched(c.r.URL.Query().Get("search"), name) {
			all = append(all, named{name, refs[full]})
		}
	}
	return all, nil
}

// searched takes ^begin and end$ as GitLab's search of branches does.
func searched(term, name string) bool {
	begin, atBegin := strings.CutPrefix(term, "^")
	end, atEnd := strings.CutSuffix(term, "$")
	switch {
	case atBegin:
		return strings.HasPrefix(name, begin)
	case atEnd:
		return strings.HasSuffix(name, end)
	}
	return strings.Contains(name, term)
}

// ref is the one that the path names.
func (c *call) ref(prefix, param, what string) (named, *failure) {
	refs, err := c.s.refs(c.r.Context(), c.project)
	if err != nil {
		return named{}, failInternal(err)
	}
	one := named{c.r.PathValue(param), refs[prefix+c.r.PathValue(param)]}
	if one.sha == "" {
		return one, notFound(what)
	}
	return one, nil
}

func (c *call) branchJSON(one named) (map[string]any, error) {
	made, err := c.s.commit(c.r.Context(), c.project, one.sha)
	merged := c.merged(one)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	developers := user{User: User{AccessLevel: developer}}
	return map[string]any{
		"name": one.name, "commit": made, "protected": c.project.protects(one.name, false), "default": one.name == c.project.DefaultBranch,
		"merged": merged, "can_push": c.project.mayPush(c.person(), one.name, false), "developers_can_push": c.project.mayPush(developers, one.name, false),
		"developers_can_merge": c.project.mayMerge(developers, one.name), "web_url": c.s.cfg.ExternalURL + "/" + c.project.Path + "/-/tree/" + one.name,
	}, err
}

// merged says whether the default branch has all of a branch, and more: of one at the same commit GitLab does not say so.
func (c *call) merged(one named) bool {
	head, err := c.s.commitish(c.r.Context(), c.project, "refs/heads/"+c.project.DefaultBranch)
	if err != nil || head == one.sha {
		return false
	}
	_, err = git(c.r.Context(), c.s.repository(c.project), nil, nil, "merge-base", "--is-ancestor", one.sha, head)
	return err == nil
}

func (c *call) tagJSON(one named) (map[string]any, error) {
	made, err := c.s.commit(c.r.Context(), c.project, one.sha)
	if err != nil {
		return nil, err
	}
	out, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, "for-each-ref", "--format=%(objecttype)%00%(contents)%00%(objectname)", "refs/tags/"+one.name)
	f := strings.SplitN(strings.TrimRight(out, "\n"), "\x00", 3)
	body := map[string]any{"name": one.name, "message": "", "target": one.sha, "commit": made, "release": nil, "protected": false, "created_at": nil}
	if len(f) == 3 {
		body["target"] = f[2]
		if f[0] == "tag" {
			body["message"], body["created_at"] = strings.TrimRight(f[1], "\n"), made.CreatedAt
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	body["protected"] = c.project.protects(one.name, true)
	if r := c.s.release(c.project, one.name); r != nil {
		body["release"] = map[string]any{"tag_name": r.Tag, "description": r.Description}
	}
	return body, err
}

// show answers with a branch or a tag.
func (c *call) show(code int, one named, json func(named) (map[string]any, error)) *failure {
	body, err := json(one)
	if err != nil {
		return failInternal(err)
	}
	reply(c.w, code, body)
	return nil
}

func (c *call) showAll(all []named, json func(named) (map[string]any, error)) *failure {
	out := []map[string]any{}
	for _, one := range keyset(c.w, c.r, all, func(one named) string { return one.name }) {
		body, err := json(one)
		if err != nil {
			return failInternal(err)
		}
		out = append(out, body)
	}
	return c.answer(out)
}

func (c *call) listBranches() *failure {
	all, f := c.named("refs/heads/")
	if f != nil {
		return f
	}
	return c.showAll(all, c.branchJSON)
}

func (c *call) getBranch() *failure {
	one, f := c.ref("refs/heads/", "branch", "Branch")
	if f != nil {
		return f
	}
	return c.show(http.StatusOK, one, c.branchJSON)
}

// newRef makes a branch or a tag, whose object was made before.
func (c *call) newRef(full, object string) error {
	lock := c.s.pushLock(c.project)
	lock.Lock()
	defer lock.Unlock()
	return c.s.move(c.r.Context(), c.project, full, "", object)
}

func (c *call) validRef(full string) bool {
	_, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, "check-ref-format", full)
	return err == nil && !strings.HasPrefix(full, "refs/heads/-") && !strings.HasPrefix(full, "refs/tags/-")
}

func (c *call) createBranch() *failure {
	p, f := c.body("branch", "ref")
	if f != nil {
		return f
	}
	name := text(p, "branch")
	c.s.mu.Lock()
	may, by := c.project.mayPush(c.person(), name, false), c.person().ID
	c.s.mu.Unlock()
	sha, err := c.s.commitish(c.r.Context(), c.project, text(p, "ref"))
	switch {
	case !c.validRef("refs/heads/" + name):
		return fail(http.StatusBadRequest, "Branch name is invalid")
	case err != nil:
		return fail(http.StatusBadRequest, "Invalid reference name: "+text(p, "ref"))
	case !may:
		return fail(http.StatusBadRequest, "You are not allowed to create protected branches on this project.")
	}
	if c.newRef("refs/heads/"+name, sha) != nil {
		return fail(http.StatusBadRequest, "Branch already exists")
	}
	c.s.pushed(c.project, "refs/heads/"+name, "", sha, by, pushOptions{})
	return c.show(http.StatusCreated, named{name, sha}, c.branchJSON)
}

// removeRef deletes what the path names. Over the API, unlike over git, who may write to a protected ref may also
// delete it.
func (c *call) removeRef(full string, one named, tag bool) *failure {
	c.s.mu.Lock()
	may := c.project.mayPush(c.person(), one.name, tag)
	c.s.mu.Unlock()
	kind := map[bool]string{false: "branch", true: "tag"}[tag]
	if !may {
		plural := map[bool]string{false: "branches", true: "tags"}[tag]
		return fail(http.StatusForbidden, "You are not allowed to delete protected "+plural+" from this project. Only a project maintainer or owner can delete a protected "+kind+".")
	}
	lock := c.s.pushLock(c.project)
	lock.Lock()
	_, err := git(c.r.Context(), c.s.repository(c.project), nil, nil, "update-ref", "-d", full)
	lock.Unlock()
	if err != nil {
		return failInternal(err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) deleteBranch() *failure {
	one, f := c.ref("refs/heads/", "branch", "Branch")
	if f != nil {
		return f
	}
	if one.name == c.project.DefaultBranch {
		return fail(http.StatusMethodNotAllowed, "Cannot remove HEAD branch")
	}
	return c.removeRef("refs/heads/"+one.name, one, false)
}

func (c *call) listTags() *failure {
	all, f := c.named("refs/tags/")
	if f != nil {
		return f
	}
	slices.Reverse(all)
	return c.showAll(all, c.tagJSON)
}

func (c *call) getTag() *failure {
	one, f := c.ref("refs/tags/", "tag", "Tag")
	if f != nil {
		return f
	}
	return c.show(http.StatusOK, one, c.tagJSON)
}

// makeTag makes a tag, annotated where it has a message, and the pipeline that follows from it.
func (c *call) makeTag(name, ref, message string) (named, *failure) {
	c.s.mu.Lock()
	u := c.person()
	may := c.project.mayPush(u, name, true)
	c.s.mu.Unlock()
	ctx, repo := c.r.Context(), c.s.repository(c.project)
	sha, err := c.s.commitish(ctx, c.project, ref)
	switch {
	case !c.validRef("refs/tags/" + name):
		return named{}, fail(http.StatusBadRequest, "Tag name invalid")
	case err != nil:
		return named{}, fail(http.StatusBadRequest, "Target "+ref+" is invalid")
	case !may:
		return named{}, fail(http.StatusForbidden, "You are not allowed to create this tag as it is protected.")
	}
	object := sha
	if message != "" {
		// The name of the tag is inside the object, so the object has to be written first.
		content := "object " + sha + "\ntype commit\ntag " + name + "\ntagger " + u.Name + " <" + u.Email + "> " + id(c.s.now().Unix()) + " +0000\n\n" + message + "\n"
		if object, err = git(ctx, repo, []byte(content), nil, "mktag"); err != nil {
			return named{}, failInternal(err)
		}
	}
	if c.newRef("refs/tags/"+name, strings.TrimSpace(object)) != nil {
		return named{}, fail(http.StatusBadRequest, "Tag "+name+" already exists")
	}
	c.s.pushed(c.project, "refs/tags/"+name, "", sha, u.ID, pushOptions{})
	return named{name, sha}, nil
}

func (c *call) createTag() *failure {
	p, f := c.body("tag_name", "ref")
	if f != nil {
		return f
	}
	one, f := c.makeTag(text(p, "tag_name"), text(p, "ref"), text(p, "message"))
	if f != nil {
		return f
	}
	return c.show(http.StatusCreated, one, c.tagJSON)
}

func (c *call) deleteTag() *failure {
	one, f := c.ref("refs/tags/", "tag", "Tag")
	if f != nil {
		return f
	}
	return c.removeRef("refs/tags/"+one.name, one, true)
}
