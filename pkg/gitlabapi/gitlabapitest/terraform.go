package gitlabapitest

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"time"
)

// tfState is a Terraform state as GitLab's http backend keeps it: all its versions, and who holds its lock.
type tfState struct {
	ID       int64       `json:"id"`
	Project  int64       `json:"project"`
	Name     string      `json:"name"`
	Lock     *tfLock     `json:"lock"`
	Versions []tfVersion `json:"versions"`
}

type tfVersion struct {
	ID        int64     `json:"id"`
	Serial    int64     `json:"serial"`
	User      int64     `json:"user"`
	CreatedAt time.Time `json:"created_at"`
}

// tfLock is a lock as Terraform writes it and is shown it. Who and Created are GitLab's own.
type tfLock struct {
	ID        string `json:"ID"`
	Operation string `json:"Operation"`
	Info      string `json:"Info"`
	Who       string `json:"Who"`
	Version   string `json:"Version"`
	Created   string `json:"Created"`
	Path      string `json:"Path"`
}

const tfStateLimit = 32 << 20

func terraformEndpoints() []endpoint {
	const one = "/projects/:id/terraform/state/:name"
	return []endpoint{
		{"GET", one, true, developer, locked((*call).getTFState)},
		{"POST", one, true, maintainer, (*call).putTFState},
		{"DELETE", one, true, maintainer, with((*call).tfState, (*call).deleteTFState)},
		{"POST", one + "/lock", true, maintainer, locked((*call).lockTFState)},
		{"DELETE", one + "/lock", true, maintainer, with((*call).tfState, (*call).unlockTFState)},
		{"GET", one + "/versions/:serial", true, developer, withTFVersion((*call).getTFVersion)},
		{"DELETE", one + "/versions/:serial", true, maintainer, withTFVersion((*call).deleteTFVersion)},
	}
}

func (c *call) findTFState() *tfState {
	for _, t := range c.s.st.TFStates {
		if t.Project == c.project.ID && t.Name == c.r.PathValue("name") {
			return t
		}
	}
	return nil
}

func (c *call) tfState() (*tfState, *failure) { return orGone(c.findTFState()) }

func withTFVersion(h func(*call, *tfState, int) *failure) handler {
	return with((*call).tfState, func(c *call, t *tfState) *failure {
		serial, f := c.idOf("serial")
		if f != nil {
			return f
		}
		at := slices.IndexFunc(t.Versions, func(v tfVersion) bool { return v.Serial == serial })
		if at < 0 {
			return notFound("")
		}
		return h(c, t, at)
	})
}

// useTFState finds or makes the state in the path; the caller holds the lock.
func (c *call) useTFState() *tfState {
	t := c.findTFState()
	if t == nil {
		t = &tfState{ID: c.s.st.next("terraform_state"), Project: c.project.ID, Name: c.r.PathValue("name")}
		c.s.st.TFStates[t.ID] = t
	}
	return t
}

// mine says whether a call with that lock id may change the state: nobody holds it, or the caller does.
func (t *tfState) mine(lock string) bool {
	return t.Lock == nil && lock == "" || t.Lock != nil && same(t.Lock.ID, lock)
}

// heldBy answers with the lock that stands, as it is: not wrapped as other answers are.
func (c *call) heldBy(code int, t *tfState) *failure {
	if t.Lock == nil {
		return fail(code, "409 Conflict")
	}
	return &failure{code, t.Lock}
}

func (s *Server) tfFile(t *tfState, v tfVersion) string {
	return s.path("terraform", id(t.ID), id(v.ID))
}

func (c *call) sendTF(t *tfState, v tfVersion) *failure {
	data, err := os.ReadFile(c.s.tfFile(t, v))
	if err != nil {
		return failInternal(err)
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = c.w.Write(data)
	return nil
}

// getTFState has no content for a state that was only locked so far, or of which nothing is known.
func (c *call) getTFState() *failure {
	t := c.findTFState()
	switch {
	case t == nil:
		return notFound("")
	case len(t.Versions) == 0:
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.sendTF(t, t.Versions[len(t.Versions)-1])
}

func (c *call) putTFState() *failure {
	data, err := io.ReadAll(io.LimitReader(c.r.Body, tfStateLimit+1))
	lock := c.r.URL.Query().Get("ID")
	var body struct {
		Serial *int64 `json:"serial"`
	}
	switch {
	case err != nil:
		return failKey(http.StatusBadRequest, "error", err.Error())
	case len(data) == 0:
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case len(data) > tfStateLimit:
		return fail(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
	case len(lock) > 255:
		return failKey(http.StatusBadRequest, "error", "ID must be less than 255 characters")
	case json.Unmarshal(data, &body) != nil || body.Serial == nil:
		return fail(http.StatusUnprocessableEntity, "422 Unprocessable Entity")
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	t := c.useTFState()
	if !t.mine(lock) {
		return c.heldBy(http.StatusConflict, t)
	}
	if slices.ContainsFunc(t.Versions, func(v tfVersion) bool { return v.Serial == *body.Serial }) {
		return fail(http.StatusUnprocessableEntity, "422 Unprocessable Entity")
	}
	v := tfVersion{ID: c.s.st.next("terraform_version"), Serial: *body.Serial, User: c.person().ID, CreatedAt: c.s.now()}
	if err := writeAtomically(c.s.tfFile(t, v), data); err != nil {
		return failInternal(err)
	}
	t.Versions = append(t.Versions, v)
	c.s.save()
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) deleteTFState(t *tfState) *failure {
	if !t.mine(text(c.read, "ID")) {
		return c.heldBy(http.StatusConflict, t)
	}
	delete(c.s.st.TFStates, t.ID)
	if err := os.RemoveAll(c.s.path("terraform", id(t.ID))); err != nil {
		return failInternal(err)
	}
	c.s.save()
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) lockTFState() *failure {
	p, f := c.body("ID", "Operation", "Info", "Who", "Version", "Created", "Path")
	if f != nil {
		return f
	}
	if lock := text(p, "ID"); lock == "" || len(lock) > 255 {
		return failKey(http.StatusBadRequest, "error", "ID is invalid")
	}
	t := c.useTFState()
	if t.Lock != nil {
		return c.heldBy(http.StatusConflict, t)
	}
	t.Lock = &tfLock{ID: text(p, "ID"), Operation: text(p, "Operation"), Info: text(p, "Info"), Who: c.person().Login, Version: text(p, "Version"),
		Created: c.s.now().Format(time.RFC3339Nano), Path: text(p, "Path")}
	c.s.save()
	return c.heldBy(http.StatusOK, t)
}

// unlockTFState without an id is Terraform's force-unlock over the API.
func (c *call) unlockTFState(t *tfState) *failure {
	if _, given := c.read["ID"]; given && !t.mine(text(c.read, "ID")) {
		return c.heldBy(http.StatusConflict, t)
	}
	t.Lock = nil
	c.s.save()
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) getTFVersion(t *tfState, at int) *failure { return c.sendTF(t, t.Versions[at]) }

func (c *call) deleteTFVersion(t *tfState, at int) *failure {
	_ = os.Remove(c.s.tfFile(t, t.Versions[at]))
	t.Versions = slices.Delete(t.Versions, at, at+1)
	return c.gone()
}
