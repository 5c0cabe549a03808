package gitlabapitest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// lastDeployment is the newest successful one of an environment, made by a job.
func (s *Server) lastDeployment(e *environment) *job {
	all := sorted(s.st.Deployments, func(d *deployment) bool { return d.Environment == e.ID && d.Status == "success" && d.Job != 0 })
	if len(all) == 0 {
		return nil
	}
	return s.st.Jobs[all[len(all)-1].Job]
}

// stopOne stops an environment as GitLab does: by the job that its last deployment names, where there is one, and at
// once where there is none. The caller holds the lock.
func (s *Server) stopOne(e *environment, by int64) {
	e.UpdatedAt, e.AutoStopAt = s.now(), nil
	last := s.lastDeployment(e)
	if last == nil || last.Definition.Environment.OnStop == "" {
		e.State = "stopped"
		return
	}
	e.State = "stopping"
	var action *job
	for _, j := range s.st.pipelineJobs(last.Pipeline) {
		if j.Definition.Name == last.Definition.Environment.OnStop && !j.Retried {
			action = j
		}
	}
	switch {
	case action == nil:
		e.State = "stopped"
		return
	case action.Status == "manual":
		action.Status, action.User, action.QueuedAt = "pending", by, ptr(s.now())
	case action.retryable():
		s.again(action, by)
	}
	s.advance(s.st.Pipelines[last.Pipeline])
}

// stopReviews stops what a merge request has deployed, once it is merged or closed: the environments of its head
// pipeline. The caller holds the lock.
func (s *Server) stopReviews(mr *mergeRequest, by int64) {
	head := s.headPipeline(mr)
	if head == nil {
		return
	}
	for _, e := range sorted(s.st.Environments, func(e *environment) bool { return e.Project == head.Project && e.State == "available" }) {
		if last := s.lastDeployment(e); last != nil && last.Pipeline == head.ID {
			s.stopOne(e, by)
		}
	}
}

// stopForgotten stops the environments whose time is over, and returns when the next one's is. The caller holds the lock.
func (s *Server) stopForgotten(now, next time.Time) time.Time {
	for _, e := range sorted(s.st.Environments, func(e *environment) bool { return e.State == "available" && e.AutoStopAt != nil }) {
		switch last := s.lastDeployment(e); {
		case e.AutoStopAt.After(now):
			if e.AutoStopAt.Before(next) {
				next = *e.AutoStopAt
			}
		case last != nil:
			s.stopOne(e, last.User)
		default:
			s.stopOne(e, s.admin().ID)
		}
	}
	return next
}

// period reads auto_stop_in: "2 days", "1 week and 3 hours", "45 minutes"; 0 for never and for what it cannot read.
func period(text string) time.Duration {
	units := map[string]time.Duration{"second": time.Second, "sec": time.Second, "minute": time.Minute, "min": time.Minute, "hour": time.Hour, "hr": time.Hour,
		"day": 24 * time.Hour, "week": 7 * 24 * time.Hour, "month": 30 * 24 * time.Hour, "year": 365 * 24 * time.Hour}
	words := slices.DeleteFunc(strings.Fields(strings.ReplaceAll(text, ",", " ")), func(w string) bool { return w == "and" })
	total := time.Duration(0)
	for i := 0; i+1 < len(words); i += 2 {
		n, err := strconv.Atoi(words[i])
		unit, ok := units[strings.TrimSuffix(words[i+1], "s")]
		if err != nil || !ok {
			return 0
		}
		total += time.Duration(n) * unit
	}
	return total
}
