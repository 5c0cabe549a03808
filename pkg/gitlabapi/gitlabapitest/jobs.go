package gitlabapitest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// job finds the job in the path; the caller holds the lock.
func (c *call) job() (*job, *failure) {
	n, f := c.idOf("job")
	if f != nil {
		return nil, f
	}
	j := c.s.st.Jobs[n]
	if j == nil || j.Project != c.project.ID {
		return nil, fail(http.StatusNotFound, "404 Not found")
	}
	return j, nil
}

func (c *call) ownJob() *failure {
	if c.caller.job == nil {
		return fail(http.StatusNotFound, "404 Job Not Found")
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	reply(c.w, http.StatusOK, c.s.jobJSON(c.caller.job))
	return nil
}

func (c *call) getJob() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	j, f := c.job()
	if f == nil {
		reply(c.w, http.StatusOK, c.s.jobJSON(j))
	}
	return f
}

func (c *call) getTrace() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	j, f := c.job()
	if f != nil {
		return f
	}
	var secrets []string
	if r := c.s.running[j.ID]; r != nil {
		secrets = r.secrets
	}
	c.w.Header().Set("Content-Type", "text/plain")
	_, _ = c.w.Write([]byte(c.s.trace(j, secrets)))
	return nil
}

func (c *call) getArtifact() *failure {
	c.s.mu.Lock()
	j, f := c.job()
	c.s.mu.Unlock()
	if f != nil {
		return f
	}
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
	if c.project.protects(pl.Ref, pl.Tag) && !c.caller.user.atLeast(maintainer) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return nil
}

func (c *call) playJob() *failure {
	p, f := c.params()
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	j, f := c.job()
	if f != nil {
		return f
	}
	pl := c.s.st.Pipelines[j.Pipeline]
	if f = c.mayRun(pl); f != nil {
		return f
	}
	if j.Status != "manual" {
		return fail(http.StatusBadRequest, "400 Bad request - Unplayable Job")
	}
	if len(mapOf(p["job_inputs"])) > 0 {
		return fail(http.StatusBadRequest, "400 Bad request - job inputs are not run by this server")
	}
	j.Status, j.User, j.QueuedAt = "pending", c.caller.user.ID, ptr(c.s.now())
	c.s.advance(pl)
	reply(c.w, http.StatusOK, c.s.jobJSON(j))
	return nil
}

func (c *call) retryJob() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	j, f := c.job()
	if f != nil {
		return f
	}
	pl := c.s.st.Pipelines[j.Pipeline]
	if f = c.mayRun(pl); f != nil {
		return f
	}
	if j.Retried || j.Status != "success" && j.Status != "failed" && j.Status != "canceled" {
		return fail(http.StatusForbidden, "403 Forbidden - Job is not retryable")
	}
	next := c.s.again(j, c.caller.user.ID)
	c.s.advance(pl)
	reply(c.w, http.StatusCreated, c.s.jobJSON(next))
	return nil
}

func (c *call) cancelJob() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	j, f := c.job()
	if f != nil {
		return f
	}
	c.s.cancel(j)
	c.s.advance(c.s.st.Pipelines[j.Pipeline])
	reply(c.w, http.StatusCreated, c.s.jobJSON(j))
	return nil
}
