package gitlabapitest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long a cancelled job may take to clean up before it is killed.
const grace = 10 * time.Second

// run is a job that has a process, or is about to get one. Its fields are guarded by the server's lock.
type run struct {
	job     int64
	pid     int
	mark    string // the entry in its processes' environment
	reason  string // why it was told to stop, if it was
	secrets []string
	done    chan struct{}
}

// end tells the job's processes to stop; whoever does not within the grace time is killed.
func (r *run) end(reason string) {
	if r.reason != "" {
		return
	}
	r.reason = reason
	if r.pid == 0 {
		return
	}
	r.signal(syscall.SIGTERM)
	go func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-r.done:
		case <-timer.C:
			r.signal(syscall.SIGKILL)
		}
	}()
}

// start gives a job its token, its deployment and a goroutine; the caller holds the lock.
func (s *Server) start(j *job) {
	token := "glcbt-" + randomHex(20)
	j.Status, j.StartedAt, j.TokenHash = "running", ptr(s.now()), hashToken(token)
	p, pl, u := s.st.Projects[j.Project], s.st.Pipelines[j.Pipeline], s.in(s.st.Projects[j.Project], s.user(j.User))
	environment := ""
	if e := j.Definition.Environment; e != nil {
		environment = e.Name
	}
	if environment != "" && j.Definition.Environment.Action == "start" {
		d := s.st.Deployments[j.Deployment]
		if d == nil {
			d = s.deploymentOf(j)
		}
		d.Status, d.UpdatedAt = "running", s.now()
		s.st.Environments[d.Environment].State = "available"
	}
	set := unless(s.settings(p, pl, environment), pl.Variables)
	r := &run{job: j.ID, mark: s.markOf(j), done: make(chan struct{})}
	s.running[j.ID] = r
	producers := s.producers(j)
	frozen, project := *j, *p // the goroutine reads them without the lock
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		err := s.execute(r, attempt{&project, pl, &frozen, u, token, producers, set})
		if err != nil {
			s.note(&frozen, "ERROR: Job failed (system failure): "+err.Error())
		}
		s.conclude(r, &project, &frozen, err)
	}()
}

// producers are the finished jobs whose artifacts this one is given.
func (s *Server) producers(j *job) []*job {
	jobs := s.st.pipelineJobs(j.Pipeline)
	var list []*job
	for _, other := range predecessors(j, jobs, s.st.Pipelines[j.Pipeline].Stages) {
		wanted := true
		for _, n := range j.Definition.Needs {
			if n.is(other) {
				wanted = n.Artifacts
			}
		}
		if j.Definition.LimitsDeps && !slices.Contains(j.Definition.Dependencies, other.Definition.Name) {
			wanted = false
		}
		if wanted {
			copied := *other
			list = append(list, &copied)
		}
	}
	return list
}

// markOf is a job's mark: its folder, which no job of another server has.
func (s *Server) markOf(j *job) string { return jobMark + "=" + s.jobDir(j) }

func (s *Server) jobDir(j *job, elem ...string) string {
	return filepath.Join(append([]string{s.buildDir(j.Pipeline), id(j.ID)}, elem...)...)
}

func (s *Server) workDir(j *job, p *project) string {
	return s.jobDir(j, "src", filepath.FromSlash(p.Path))
}

// attempt is what a job is run with. Project and job are copies, read without the lock.
type attempt struct {
	project   *project
	pipeline  *pipeline
	job       *job
	user      user
	token     string
	producers []*job
	set       []*variable // those of the project's and the group's variables that are this job's
}

// execute prepares the job's folder, runs gitlab-ci-local for this one job and waits for its end.
func (s *Server) execute(r *run, a attempt) error {
	ctx, p, pl, j := s.ctx, a.project, a.pipeline, a.job
	dir := s.workDir(j, p)
	origin := strings.Replace(s.cfg.Endpoint, "://", "://gitlab-ci-token:"+a.token+"@", 1) + "/" + p.Path + ".git"
	if err := s.checkout(ctx, p, pl.SHA, dir, origin); err != nil {
		return err
	}
	made, err := s.commit(ctx, p, pl.SHA)
	if err != nil {
		return err
	}
	dotenv, err := s.prepare(p, pl, j, dir, a.producers)
	if err != nil {
		return err
	}
	secret, open, err := s.jobVariables(p, pl, j, a.user, dir, a.token)
	if err != nil {
		return err
	}
	variables := s.pipelineVariables(p, pl, a.user, made, a.set)
	maps.Copy(variables, open)
	settings := values(a.set, dir+".tmp", variables)
	hidden := append(slices.Collect(maps.Values(secret)), masks(a.set)...)
	if err := errors.Join(writeFiles(a.set, dir+".tmp"), writeVariables(dir, settings), s.writeEnv(j, hidden, dotenv, variables, settings, secret)); err != nil {
		return err
	}
	log, err := os.OpenFile(s.jobDir(j, "runner.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.cfg.Runner.Command[0], s.ciLocalArgs(configFile, variables, j.Definition.Name, validated, "--no-color")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(s.cfg.jobEnviron(), "BASH_ENV="+s.jobDir(j, "env"), r.mark,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+s.jobDir(j, "gitconfig"), "GIT_TERMINAL_PROMPT=0") // a clean machine's git
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	s.mu.Lock()
	if r.reason == "" {
		if err = cmd.Start(); err == nil {
			r.pid = cmd.Process.Pid
			r.secrets = hidden
			if kept := s.st.Jobs[j.ID]; kept != nil {
				kept.PID, kept.PIDStart = r.pid, startTime(r.pid)
				s.save()
			}
		}
	}
	started := r.pid != 0
	s.mu.Unlock()
	if err != nil || !started {
		return err
	}
	defer s.endAfter(r, j.Definition.timeout()).Stop()
	_ = cmd.Wait() // its exit status says nothing: the spool does
	s.reap(ctx, r)
	return nil
}

// endAfter ends a job when its time is up.
func (s *Server) endAfter(r *run, left time.Duration) *time.Timer {
	return time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.end("job_execution_timeout")
	})
}

// reap waits until nothing of the job is left: after a cancellation with patience, otherwise at once.
func (s *Server) reap(ctx context.Context, r *run) {
	s.mu.Lock()
	told := r.reason != ""
	s.mu.Unlock()
	if !told {
		r.signal(syscall.SIGKILL)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for r.lives() {
		select {
		case <-ctx.Done():
			r.signal(syscall.SIGKILL)
			return
		case <-tick.C:
			if !told {
				r.signal(syscall.SIGKILL) // what it has started since
			}
		}
	}
}

// outcome is what the job's own shell left behind.
type outcome struct {
	began bool
	code  *int
}

func (s *Server) spool(j *job) outcome {
	var o outcome
	data, err := os.ReadFile(s.jobDir(j, "spool"))
	if err != nil {
		return o
	}
	for _, line := range strings.Split(string(data), "\n") {
		var code int
		switch {
		case strings.HasPrefix(line, "start "):
			o.began = true
		case strings.HasPrefix(line, "end "):
			if _, err := fmt.Sscanf(line, "end %d", &code); err == nil {
				o.code = &code
			}
		}
	}
	return o
}

// conclude turns what is known of a job whose processes are gone into its final state.
func (s *Server) conclude(r *run, p *project, j *job, err error) {
	o := s.spool(j)
	dir := s.workDir(j, p)
	var bad error
	if err == nil && o.code != nil {
		bad = s.collect(j, dir, *o.code == 0)
	}
	archive := s.archiveSize(j)
	s.mu.Lock()
	defer s.mu.Unlock()
	j = s.st.Jobs[j.ID]
	status, reason := "success", ""
	switch {
	case r.reason == "canceled":
		status = "canceled"
	case r.reason != "":
		status, reason = "failed", r.reason
	case errors.Is(err, errBurnedPath):
		status, reason = "failed", "id_token_burned_project_path"
	case err != nil, !o.began:
		status, reason = "failed", "runner_system_failure"
	case o.code == nil, *o.code != 0, bad != nil:
		status, reason = "failed", "script_failure"
	}
	s.closeTrace(j, r, status, reason, o, bad)
	for _, path := range []string{"env", "secrets.json", "spool", "gitconfig", "src"} {
		_ = os.RemoveAll(s.jobDir(j, path))
	}
	j.Status, j.FailureReason, j.FinishedAt, j.TokenHash, j.PID, j.PIDStart, j.Archive = status, reason, ptr(s.now()), "", 0, "", archive
	if r.reason == "" {
		j.ExitCode = o.code
	}
	j.Tolerated = status == "failed" && (j.Definition.AllowFailure || j.ExitCode != nil && slices.Contains(j.Definition.AllowCodes, *j.ExitCode))
	if d := s.st.Deployments[j.Deployment]; d != nil {
		d.Status, d.UpdatedAt, d.FinishedAt = status, s.now(), ptr(s.now())
		if env := s.st.Environments[d.Environment]; env != nil && status == "success" {
			if j.Definition.Environment.URL != "" {
				env.ExternalURL, env.UpdatedAt = expand(j.Definition.Environment.URL, s.dotenvOf(j)), s.now()
			}
			if after := period(j.Definition.Environment.StopIn); after > 0 {
				env.AutoStopAt = ptr(s.now().Add(after))
			}
		}
	}
	if e := j.Definition.Environment; e != nil && e.Action == "stop" && status == "success" {
		env := s.environmentFor(j.Project, e)
		env.State, env.UpdatedAt = "stopped", s.now()
	}
	delete(s.running, j.ID)
	close(r.done)
	if status == "failed" && !s.closed && j.Definition.Retry.retries(reason, j.ExitCode, s.attempts(j)) {
		s.again(j, j.User)
	}
	s.advance(s.st.Pipelines[j.Pipeline])
}

func (s *Server) attempts(j *job) int {
	return len(sorted(s.st.Jobs, func(o *job) bool { return o.Pipeline == j.Pipeline && o.Definition.Name == j.Definition.Name }))
}

// again makes another attempt at a job, and lets those that were skipped because of it have their turn again.
func (s *Server) again(old *job, by int64) *job {
	old.Retried = true
	j := &job{ID: s.st.next("job"), Pipeline: old.Pipeline, Project: old.Project, User: by, Definition: old.Definition, Status: "pending", CreatedAt: s.now(), QueuedAt: ptr(s.now())}
	s.st.Jobs[j.ID] = j
	for _, later := range s.st.pipelineJobs(old.Pipeline) {
		if later.Status == "skipped" {
			later.Status = "created"
		}
	}
	return j
}

// adopt settles the jobs that were running when the last server stopped: those whose process lives on are watched to
// their end, the others are concluded from what they left. The caller holds the lock.
func (s *Server) adopt() {
	for _, mr := range s.st.MergeRequests {
		if mr.Status == "checking" {
			mr.Status = "unchecked" // whoever checked it is gone
		}
	}
	for _, j := range sorted(s.st.Jobs, func(j *job) bool { return j.Status == "running" || j.Status == "canceling" }) {
		r := &run{job: j.ID, pid: j.PID, mark: s.markOf(j), done: make(chan struct{})}
		if data, err := os.ReadFile(s.jobDir(j, "secrets.json")); err == nil {
			_ = json.Unmarshal(data, &r.secrets)
		}
		alive := j.PID != 0 && startTime(j.PID) == j.PIDStart
		switch {
		case j.Status != "canceling":
		case alive:
			r.end("canceled") // again: the time to clean up, and the end after it, were the last server's
		default:
			r.reason = "canceled" // the number of its group may be another's by now
		}
		s.running[j.ID] = r
		frozen := *j
		p := s.st.Projects[j.Project]
		s.work.Add(1)
		go func() {
			defer s.work.Done()
			var err error
			if alive {
				defer s.endAfter(r, frozen.Definition.timeout()-age(frozen.PIDStart)).Stop()
				s.watch(r, frozen.PIDStart)
				s.reap(s.ctx, r)
			} else if frozen.PID == 0 {
				err = errors.New("the server stopped before the job began")
			} else {
				r.killMarked() // what it has left behind
			}
			s.conclude(r, p, &frozen, err)
		}()
	}
	s.dispatch()
}

// watch waits for the end of a process that is not a child of this one, or of this server.
func (s *Server) watch(r *run, since string) {
	fd, err := unix.PidfdOpen(r.pid, 0)
	if err != nil {
		if !errors.Is(err, unix.ESRCH) { // a kernel that has no such thing
			s.poll(r, since)
		}
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if startTime(r.pid) != since { // its number is another's by now
		return
	}
	for s.ctx.Err() == nil {
		const wake = 200 // milliseconds, for the end of the server
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wake)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (s *Server) poll(r *run, since string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for startTime(r.pid) == since {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
