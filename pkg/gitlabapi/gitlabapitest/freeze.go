package gitlabapitest

import (
	"cmp"
	"net/http"
	"time"
)

// freeze is a time in which nothing should be deployed: from one cron line's moments to another's.
type freeze struct {
	ID        int64     `json:"id"`
	Project   int64     `json:"project"`
	Start     string    `json:"start"`
	End       string    `json:"end"`
	Zone      string    `json:"zone"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func freezeEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/projects/:id/freeze_periods", false, guest, locked((*call).listFreezes)},
		{"POST", "/projects/:id/freeze_periods", false, maintainer, locked((*call).createFreeze)},
		{"GET", "/projects/:id/freeze_periods/:freeze_period", false, guest, with((*call).freeze, func(c *call, f *freeze) *failure { return c.answer(freezeJSON(f)) })},
		{"PUT", "/projects/:id/freeze_periods/:freeze_period", false, maintainer, with((*call).freeze, (*call).putFreeze)},
		{"DELETE", "/projects/:id/freeze_periods/:freeze_period", false, maintainer, with((*call).freeze, (*call).deleteFreeze)},
	}
}

func (c *call) freeze() (*freeze, *failure) {
	return found(c, c.s.st.Freezes, "freeze_period", "Freeze Period", func(f *freeze) int64 { return f.Project })
}

func freezeJSON(f *freeze) map[string]any {
	return map[string]any{"id": f.ID, "freeze_start": f.Start, "freeze_end": f.End, "cron_timezone": f.Zone, "created_at": f.CreatedAt, "updated_at": f.UpdatedAt}
}

func (f *freeze) check() *failure {
	problems := map[string][]string{}
	for key, line := range map[string]string{"freeze_start": f.Start, "freeze_end": f.End} {
		_, bad := cronTime(line, f.Zone)
		if bad["cron"] != nil {
			problems[key] = bad["cron"]
		}
		if bad["cron_timezone"] != nil {
			problems["cron_timezone"] = bad["cron_timezone"]
		}
	}
	if len(problems) > 0 {
		return fail(http.StatusBadRequest, problems)
	}
	return nil
}

// holds says whether a moment is inside the freeze: its next change is then its end.
func (f *freeze) holds(now time.Time) bool {
	start, badStart := cronTime(f.Start, f.Zone)
	end, badEnd := cronTime(f.End, f.Zone)
	return badStart == nil && badEnd == nil && end.Next(now).Before(start.Next(now))
}

// frozen says whether a project is in a freeze; the caller holds the lock.
func (s *Server) frozen(project int64) bool {
	now := s.now()
	return len(sorted(s.st.Freezes, func(f *freeze) bool { return f.Project == project && f.holds(now) })) > 0
}

func (c *call) listFreezes() *failure {
	return list(c, sorted(c.s.st.Freezes, func(f *freeze) bool { return f.Project == c.project.ID }), freezeJSON)
}

func (c *call) createFreeze() *failure {
	p, f := c.body("freeze_start", "freeze_end")
	if f != nil {
		return f
	}
	one := &freeze{Project: c.project.ID, Start: text(p, "freeze_start"), End: text(p, "freeze_end"), Zone: cmp.Or(text(p, "cron_timezone"), "UTC"), CreatedAt: c.s.now(), UpdatedAt: c.s.now()}
	if f = one.check(); f != nil {
		return f
	}
	one.ID = c.s.st.next("freeze")
	c.s.st.Freezes[one.ID] = one
	return c.made(freezeJSON(one))
}

func (c *call) putFreeze(one *freeze) *failure {
	next := *one
	for key, field := range map[string]*string{"freeze_start": &next.Start, "freeze_end": &next.End, "cron_timezone": &next.Zone} {
		if _, ok := c.read[key]; ok {
			*field = text(c.read, key)
		}
	}
	if f := next.check(); f != nil {
		return f
	}
	next.UpdatedAt = c.s.now()
	*one = next
	return c.changed(freezeJSON(one))
}

func (c *call) deleteFreeze(one *freeze) *failure {
	delete(c.s.st.Freezes, one.ID)
	return c.gone()
}
