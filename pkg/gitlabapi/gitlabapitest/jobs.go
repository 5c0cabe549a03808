package gitlabapitest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func (c *call) job() (*job, *failure) {
	return found(c, c.s.st.Jobs, "job", "", func(j *job) int64 { return j.Project })
}

// withRunnableJob is for calls that run a job or end it: on a protected ref, only who may write to it may.
func withRunnableJob(h func(*call, *job, *pipeline) *failure) handler {
	return with((*call).job, func(c *call, j *job) *failure {
		pl := c.s.st.Pipelines[j.Pipeline]
		if f := c.mayRun(pl); f != nil {
			return f
		}
		return h(c, j, pl)
	})
}

func (c *call) ownJob() *failure {
	if c.caller.job == nil {
		return notFound("Job")
	}
	return c.answer(c.s.jobJSON(c.caller.job))
}

func (c *call) getJob(j *job) *failure { return c.answer(c.s.jobJSON(j)) }

func (c *call) getTrace(j *job) *failure {
	var secrets []string
	if r := c.s.running[j.ID]; r != nil {
		secrets = r.secrets
	}
	c.w.Header().Set("Content-Type", "text/plain")
	_, _ = c.w.Write([]byte(c.s.trace(j, secrets)))
	return nil
}

func (c *call) getArtifact(j *job) *failure {
	root, err := os.OpenRoot(c.s.artifactsDir(j))
	if err != nil {
		return notFound("Artifact")
	}
	defer root.Close()
	name := filepath.FromSlash(c.r.PathValue("*"))
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(name, reportsDir) {
		return notFound("Artifact")
	}
	data, err := root.ReadFile(name)
	if err != nil {
		return failInternal(err)
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = c.w.Write(data)
	return nil
}

// mayRun says whether a person may run jobs of a pipeline: on a protected ref, only who may write to it.
func (c *call) mayRun(pl *pipeline) *failure {
	if c.project.runsProtected(pl) && !c.project.mayUpdate(c.person(), pl.Ref, pl.Tag) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return nil
}

func (c *call) playJob(j *job, pl *pipeline) *failure {
	if !c.s.mayDeploy(c.project, c.person(), j.Definition.Environment) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	if d := c.s.st.Deployments[j.Deployment]; j.Status != "manual" || d != nil && d.Status == "blocked" {
		return fail(http.StatusBadRequest, "400 Bad request - Unplayable Job")
	}
	if len(mapOf(c.read["job_inputs"])) > 0 {
		return fail(http.StatusBadRequest, "400 Bad request - job inputs are not run by this server")
	}
	j.Status, j.User, j.QueuedAt = "pending", c.person().ID, ptr(c.s.now())
	c.s.advance(pl)
	return c.answer(c.s.jobJSON(j))
}

func (c *call) retryJob(j *job, pl *pipeline) *failure {
	if !j.retryable() {
		return fail(http.StatusForbidden, "403 Forbidden - Job is not retryable")
	}
	next := c.s.again(j, c.person().ID)
	c.s.advance(pl)
	return c.made(c.s.jobJSON(next))
}

func (j *job) retryable() bool {
	return !j.Retried && (j.Status == "success" || j.Status == "failed" || j.Status == "canceled")
}

func (c *call) cancelJob(j *job, pl *pipeline) *failure {
	c.s.cancel(j)
	c.s.advance(pl)
	return c.made(c.s.jobJSON(j))
}
