package gitlabapitest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// release is what a project says of one of its tags.
type release struct {
	ID          int64         `json:"id"`
	Project     int64         `json:"project"`
	Tag         string        `json:"tag"`
	Name        string        `json:"name"`
	Description string        `json:"description"`
	SHA         string        `json:"sha"`
	Commit      commit        `json:"commit"`
	Author      int64         `json:"author"`
	Links       []releaseLink `json:"links"`
	CreatedAt   time.Time     `json:"created_at"`
	ReleasedAt  time.Time     `json:"released_at"`
}

type releaseLink struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	URL  string `json:"url"`
	Path string `json:"path,omitempty"`
	Type string `json:"type"`
}

func releaseEndpoints() []endpoint {
	const all, one = "/projects/:id/releases", "/projects/:id/releases/:tag"
	return []endpoint{
		{"GET", all, true, 0, locked((*call).listReleases)},
		{"POST", all, true, developer, (*call).createRelease},
		{"GET", all + "/permalink/latest", true, 0, locked((*call).latestRelease)},
		{"GET", one, true, 0, with((*call).release, func(c *call, r *release) *failure { return c.answer(c.s.releaseJSON(r)) })},
		{"PUT", one, true, developer, withWritableRelease((*call).putRelease)},
		{"DELETE", one, true, developer, withWritableRelease((*call).deleteRelease)},
		{"GET", one + "/assets/links", true, 0, with((*call).release, func(c *call, r *release) *failure { return list(c, r.Links, c.s.linkJSON(r)) })},
		{"POST", one + "/assets/links", true, developer, withWritableRelease((*call).createLink)},
		{"GET", one + "/assets/links/:link", true, 0, with((*call).release, (*call).getLink)},
		{"PUT", one + "/assets/links/:link", true, developer, withWritableRelease((*call).putLink)},
		{"DELETE", one + "/assets/links/:link", true, developer, withWritableRelease((*call).deleteLink)},
	}
}

func (s *Server) release(p *project, tag string) *release {
	for _, r := range s.st.Releases {
		if r.Project == p.ID && r.Tag == tag {
			return r
		}
	}
	return nil
}

func (c *call) release() (*release, *failure) {
	return orGone(c.s.release(c.project, c.r.PathValue("tag")))
}

// withWritableRelease lets who may write the tag change its release.
func withWritableRelease(h func(*call, *release) *failure) handler {
	return with((*call).release, func(c *call, r *release) *failure {
		if !c.project.mayPush(c.person(), r.Tag, true) {
			return fail(http.StatusForbidden, "403 Forbidden")
		}
		return h(c, r)
	})
}

func (s *Server) releaseJSON(r *release) map[string]any {
	p := s.st.Projects[r.Project]
	base := s.cfg.ExternalURL + "/" + p.Path + "/-/"
	links := []map[string]any{}
	for _, l := range r.Links {
		links = append(links, s.linkJSON(r)(l))
	}
	_, name, _ := cutLast(p.Path, "/")
	sources := []map[string]any{}
	for _, format := range []string{"zip", "tar.gz", "tar.bz2", "tar"} {
		sources = append(sources, map[string]any{"format": format, "url": base + "archive/" + r.Tag + "/" + name + "-" + r.Tag + "." + format})
	}
	return map[string]any{"tag_name": r.Tag, "name": r.Name, "description": r.Description, "created_at": r.CreatedAt, "released_at": r.ReleasedAt,
		"upcoming_release": r.ReleasedAt.After(s.now()), "author": s.userJSON(s.user(r.Author)), "commit": r.Commit, "commit_path": "/" + p.Path + "/-/commit/" + r.SHA,
		"tag_path": "/" + p.Path + "/-/tags/" + r.Tag, "assets": map[string]any{"count": len(links) + len(sources), "sources": sources, "links": links}, "evidences": []any{},
		"_links": releaseLinks(base, url.PathEscape(r.Tag))}
}

func releaseLinks(base, tag string) map[string]any {
	links := map[string]any{"self": base + "releases/" + tag, "edit_url": base + "releases/" + tag + "/edit"}
	for key, of := range map[string]string{"opened_issues": "issues opened", "closed_issues": "issues closed", "opened_merge_requests": "merge_requests opened",
		"closed_merge_requests": "merge_requests closed", "merged_merge_requests": "merge_requests merged"} {
		kind, state, _ := strings.Cut(of, " ")
		links[key+"_url"] = base + kind + "?release_tag=" + tag + "&scope=all&state=" + state
	}
	return links
}

func (s *Server) linkJSON(r *release) func(releaseLink) map[string]any {
	return func(l releaseLink) map[string]any {
		direct := l.URL
		if l.Path != "" {
			direct = s.cfg.ExternalURL + "/" + s.st.Projects[r.Project].Path + "/-/releases/" + url.PathEscape(r.Tag) + "/downloads" + l.Path
		}
		return map[string]any{"id": l.ID, "name": l.Name, "url": l.URL, "direct_asset_url": direct, "link_type": l.Type}
	}
}

func (c *call) releases() []*release {
	all := sorted(c.s.st.Releases, func(r *release) bool { return r.Project == c.project.ID })
	slices.SortStableFunc(all, func(a, b *release) int {
		if c.r.URL.Query().Get("order_by") == "created_at" {
			return a.CreatedAt.Compare(b.CreatedAt)
		}
		return a.ReleasedAt.Compare(b.ReleasedAt)
	})
	return all
}

func (c *call) listReleases() *failure {
	return list(c, newestFirst(c, c.releases()), c.s.releaseJSON)
}

func (c *call) latestRelease() *failure {
	all := slices.DeleteFunc(c.releases(), func(r *release) bool { return r.ReleasedAt.After(c.s.now()) })
	if len(all) == 0 {
		return notFound("")
	}
	return c.answer(c.s.releaseJSON(all[len(all)-1]))
}

// createRelease makes the tag too, where there is none and a ref is given.
func (c *call) createRelease() *failure {
	p, f := c.body("tag_name")
	if f != nil {
		return f
	}
	r := &release{Project: c.project.ID, Tag: text(p, "tag_name"), Name: cmp.Or(text(p, "name"), text(p, "tag_name")), Description: text(p, "description")}
	c.s.mu.Lock()
	taken, may := c.s.release(c.project, r.Tag) != nil, c.project.mayPush(c.person(), r.Tag, true)
	r.Author, r.CreatedAt, r.ReleasedAt = c.person().ID, c.s.now(), c.s.now()
	c.s.mu.Unlock()
	sha, _, err := c.s.resolve(c.r.Context(), c.project, "refs/tags/"+r.Tag)
	if when := text(p, "released_at"); when != "" {
		at, err := time.Parse(time.RFC3339, when)
		if err != nil {
			return failKey(http.StatusBadRequest, "error", "released_at is invalid")
		}
		r.ReleasedAt = at
	}
	switch {
	case err != nil:
		return failInternal(err)
	case !may:
		return fail(http.StatusForbidden, "403 Forbidden")
	case taken:
		return fail(http.StatusConflict, "Release already exists")
	case sha == "" && text(p, "ref") == "":
		return fail(http.StatusUnprocessableEntity, "Ref is not specified")
	case sha == "":
		made, f := c.makeTag(r.Tag, text(p, "ref"), text(p, "tag_message"))
		if f != nil {
			return f
		}
		sha = made.sha
	}
	r.SHA = sha
	if r.Commit, err = c.s.commit(c.r.Context(), c.project, sha); err != nil {
		return failInternal(err)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	given, _ := mapOf(p["assets"])["links"].([]any)
	for _, raw := range given {
		if f := c.addLink(r, mapOf(raw)); f != nil {
			return f
		}
	}
	r.ID = c.s.st.next("release")
	c.s.st.Releases[r.ID] = r
	return c.made(c.s.releaseJSON(r))
}

func (c *call) putRelease(r *release) *failure {
	if _, ok := c.read["released_at"]; ok {
		at, err := time.Parse(time.RFC3339, text(c.read, "released_at"))
		if err != nil {
			return failKey(http.StatusBadRequest, "error", "released_at is invalid")
		}
		r.ReleasedAt = at
	}
	for key, field := range map[string]*string{"name": &r.Name, "description": &r.Description} {
		if _, ok := c.read[key]; ok {
			*field = text(c.read, key)
		}
	}
	return c.changed(c.s.releaseJSON(r))
}

// deleteRelease leaves the tag.
func (c *call) deleteRelease(r *release) *failure {
	delete(c.s.st.Releases, r.ID)
	return c.changed(c.s.releaseJSON(r))
}

// check names what is wrong with a link, in GitLab's way.
func (l *releaseLink) check(r *release) []string {
	var problems []string
	u, err := url.Parse(l.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ftp" {
		problems = append(problems, "Url is blocked: Only allowed schemes are http, https, ftp")
	}
	if l.Path != "" && !strings.HasPrefix(l.Path, "/") {
		problems = append(problems, "Filepath is in an invalid format")
	}
	for _, o := range r.Links {
		if o.ID != l.ID && o.Name == l.Name {
			problems = append(problems, "Name has already been taken")
		}
		if o.ID != l.ID && o.URL == l.URL {
			problems = append(problems, "Url has already been taken")
		}
	}
	return problems
}

func (l *releaseLink) assign(p map[string]any) {
	for key, field := range map[string]*string{"name": &l.Name, "url": &l.URL, "link_type": &l.Type} {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	if v := cmp.Or(text(p, "direct_asset_path"), text(p, "filepath")); v != "" {
		l.Path = v
	}
}

func (l *releaseLink) valid(r *release) *failure {
	if !slices.Contains([]string{"other", "runbook", "image", "package"}, l.Type) {
		return failKey(http.StatusBadRequest, "error", "link_type does not have a valid value")
	}
	if problems := l.check(r); problems != nil {
		return fail(http.StatusBadRequest, problems)
	}
	return nil
}

func (c *call) addLink(r *release, p map[string]any) *failure {
	if f := missing(p, "name", "url"); f != nil {
		return f
	}
	l := releaseLink{ID: c.s.st.next("release_link"), Type: "other"}
	l.assign(p)
	if f := l.valid(r); f != nil {
		return f
	}
	r.Links = append(r.Links, l)
	return nil
}

func (c *call) createLink(r *release) *failure {
	if f := c.addLink(r, c.read); f != nil {
		return f
	}
	return c.made(c.s.linkJSON(r)(r.Links[len(r.Links)-1]))
}

func (c *call) link(r *release) (int, *failure) {
	n, f := c.idOf("link")
	if f != nil {
		return 0, f
	}
	at := slices.IndexFunc(r.Links, func(l releaseLink) bool { return l.ID == n })
	if at < 0 {
		return 0, notFound("")
	}
	return at, nil
}

func (c *call) getLink(r *release) *failure {
	at, f := c.link(r)
	if f != nil {
		return f
	}
	return c.answer(c.s.linkJSON(r)(r.Links[at]))
}

func (c *call) putLink(r *release) *failure {
	at, f := c.link(r)
	if f != nil {
		return f
	}
	if text(c.read, "name") == "" && text(c.read, "url") == "" {
		return failKey(http.StatusBadRequest, "error", "name, url are missing, at least one parameter must be provided")
	}
	next := r.Links[at]
	next.assign(c.read)
	if f := next.valid(r); f != nil {
		return f
	}
	r.Links[at] = next
	return c.changed(c.s.linkJSON(r)(next))
}

func (c *call) deleteLink(r *release) *failure {
	at, f := c.link(r)
	if f != nil {
		return f
	}
	gone := r.Links[at]
	r.Links = slices.Delete(r.Links, at, at+1)
	return c.changed(c.s.linkJSON(r)(gone))
}
