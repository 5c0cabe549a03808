package gitlabapitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// note is a comment on a merge request.
type note struct {
	ID        int64     `json:"id"`
	Merge     int64     `json:"merge_request"`
	Author    int64     `json:"author"`
	Body      string    `json:"body"`
	Internal  bool      `json:"internal"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

const noteLimit = 1_000_000

func noteEndpoints() []endpoint {
	const all = "/projects/:id/merge_requests/:merge_request/notes"
	return []endpoint{
		{"GET", all, true, 0, with((*call).mergeRequest, (*call).listNotes)},
		{"POST", all, false, reporter, with((*call).mergeRequest, (*call).createNote)},
		{"GET", all + "/:note", true, 0, withNote(func(c *call, mr *mergeRequest, n *note) *failure { return c.answer(c.s.noteJSON(mr, n)) })},
		{"PUT", all + "/:note", false, reporter, withOwnNote((*call).putNote)},
		{"DELETE", all + "/:note", false, reporter, withOwnNote((*call).deleteNote)},
	}
}

func withNote(h func(*call, *mergeRequest, *note) *failure) handler {
	return with((*call).mergeRequest, func(c *call, mr *mergeRequest) *failure {
		number, f := c.idOf("note")
		if f != nil {
			return f
		}
		n := c.s.st.Notes[number]
		if n == nil || n.Merge != mr.ID {
			return notFound("Note")
		}
		return h(c, mr, n)
	})
}

// withOwnNote lets the author change a note, and a maintainer.
func withOwnNote(h func(*call, *mergeRequest, *note) *failure) handler {
	return withNote(func(c *call, mr *mergeRequest, n *note) *failure {
		if u := c.person(); n.Author != u.ID && !u.atLeast(maintainer) {
			return fail(http.StatusForbidden, "403 Forbidden")
		}
		return h(c, mr, n)
	})
}

func (s *Server) notesOf(mr *mergeRequest) []*note {
	return sorted(s.st.Notes, func(n *note) bool { return n.Merge == mr.ID })
}

func (s *Server) noteJSON(mr *mergeRequest, n *note) map[string]any {
	return map[string]any{"id": n.ID, "type": nil, "body": n.Body, "attachment": nil, "author": s.userJSON(s.user(n.Author)), "system": false,
		"created_at": n.CreatedAt, "updated_at": n.UpdatedAt, "noteable_id": mr.ID, "noteable_type": "MergeRequest", "noteable_iid": mr.IID, "project_id": mr.Project,
		"resolvable": false, "confidential": n.Internal, "internal": n.Internal, "imported": false, "imported_from": "none", "commands_changes": map[string]any{}}
}

func (c *call) listNotes(mr *mergeRequest) *failure {
	all := c.s.notesOf(mr)
	if !c.person().atLeast(reporter) {
		all = slices.DeleteFunc(all, func(n *note) bool { return n.Internal })
	}
	return list(c, newestFirst(c, all), func(n *note) map[string]any { return c.s.noteJSON(mr, n) })
}

// noteBody reads a note's text.
func (c *call) noteBody() (string, *failure) {
	p, f := c.body("body")
	if f != nil {
		return "", f
	}
	problem := ""
	switch body := text(p, "body"); {
	case strings.TrimSpace(body) == "":
		problem = "can't be blank"
	case len([]rune(body)) > noteLimit:
		problem = fmt.Sprintf("is too long (maximum is %d characters)", noteLimit)
	default:
		return body, nil
	}
	return "", fail(http.StatusBadRequest, fmt.Sprintf("400 Bad request - Note {:note=>[%q]}", problem))
}

func (c *call) createNote(mr *mergeRequest) *failure {
	body, f := c.noteBody()
	if f != nil {
		return f
	}
	u := c.person()
	if c.s.limits.over(c.s.now(), "notes_create", id(u.ID)) {
		return tooMany()
	}
	if want := text(c.read, "merge_request_diff_head_sha"); want != "" && want != mr.SHA {
		return fail(http.StatusConflict, "Merge request diff head SHA does not match")
	}
	n := &note{ID: c.s.st.next("note"), Merge: mr.ID, Author: u.ID, Body: body, Internal: truth(c.read, "internal"), CreatedAt: c.s.now(), UpdatedAt: c.s.now()}
	c.s.st.Notes[n.ID] = n
	return c.made(c.s.noteJSON(mr, n))
}

func (c *call) putNote(mr *mergeRequest, n *note) *failure {
	body, f := c.noteBody()
	if f != nil {
		return f
	}
	n.Body, n.UpdatedAt = body, c.s.now()
	return c.changed(c.s.noteJSON(mr, n))
}

func (c *call) deleteNote(_ *mergeRequest, n *note) *failure {
	delete(c.s.st.Notes, n.ID)
	return c.gone()
}
