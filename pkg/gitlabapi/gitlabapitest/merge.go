package gitlabapitest

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"strings"
)

// keepHead keeps the head of a request in its target's repository, where a fork's commits would not be.
func (s *Server) keepHead(ref string, to, from *project, sha string) error {
	_, err := git(s.ctx, s.repository(to), nil, nil, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", s.repository(from), "+"+sha+":"+ref)
	return err
}

// branchMoved brings the open requests up to date with a push, and returns those whose source it was.
func (s *Server) branchMoved(p *project, branch, sha string) []*mergeRequest {
	s.mu.Lock()
	var sources []*mergeRequest
	for _, mr := range sorted(s.st.MergeRequests, func(mr *mergeRequest) bool { return mr.State == "opened" }) {
		switch {
		case mr.SourceProject == p.ID && mr.Source == branch:
			mr.SHA, mr.Status, mr.AutoMergeBy, mr.UpdatedAt = sha, "unchecked", 0, s.now()
			if !s.cfg.Free {
				mr.Approvals = nil // they were for other commits
			}
			sources = append(sources, mr)
		case mr.Project == p.ID && mr.Target == branch:
			mr.Status = "unchecked"
		}
	}
	s.save()
	s.mu.Unlock()
	for _, mr := range sources {
		if err := s.keepHead(mr.headRef(), s.st.Projects[mr.Project], p, sha); err != nil {
			s.mu.Lock()
			mr.Status = "cannot_be_merged"
			s.mu.Unlock()
		}
	}
	return sources
}

// changedFiles counts the files in which two commits differ.
func (s *Server) changedFiles(p *project, base, head string) int {
	if base == "" {
		return 0
	}
	out, err := git(s.ctx, s.repository(p), nil, nil, "diff", "--name-only", "-z", base, head, "--")
	if err != nil {
		return 0
	}
	return strings.Count(out, "\x00")
}

// recheck sets the check of a request going, where its status is out of date; the caller holds the lock.
func (s *Server) recheck(mr *mergeRequest) {
	if mr.Status != "unchecked" || mr.State != "opened" || s.closed {
		return
	}
	mr.Status = "checking"
	mr.check++
	copied := *mr
	target, source := s.st.Projects[mr.Project], s.st.Projects[mr.SourceProject]
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		status, base := s.mergeable(&copied, target, source)
		changes := s.changedFiles(target, base, copied.SHA)
		s.mu.Lock()
		defer s.mu.Unlock()
		if mr.Status == "checking" && mr.check == copied.check { // an older one would say what was of another head or target
			mr.Status, mr.BaseSHA, mr.Changes = status, base, changes
			if mr.PreparedAt == nil {
				mr.PreparedAt = ptr(s.now())
			}
			s.save()
		}
		s.changed()
	}()
}

// mergeable tries the merge. The control endpoint can hold all checks, so that a client can be seen to wait.
func (s *Server) mergeable(mr *mergeRequest, target, source *project) (status, base string) {
	changes, stop := s.subscribe()
	defer stop()
	for s.faults.held() {
		select {
		case <-changes:
		case <-s.ctx.Done():
			return "unchecked", ""
		}
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return "unchecked", ""
		}
	}
	if err := s.keepHead(mr.headRef(), target, source, mr.SHA); err != nil {
		return "cannot_be_merged", ""
	}
	to, _, err := s.resolve(s.ctx, target, "refs/heads/"+mr.Target)
	if err != nil || to == "" {
		return "cannot_be_merged", ""
	}
	out, err := git(s.ctx, s.repository(target), nil, nil, "merge-base", to, mr.SHA)
	if err != nil {
		return "cannot_be_merged", ""
	}
	if _, err := s.mergeTree(s.ctx, target, to, mr.SHA); err != nil {
		return "cannot_be_merged", strings.TrimSpace(out)
	}
	return "can_be_merged", strings.TrimSpace(out)
}

var errConflict = errors.New("the branches conflict")

// mergeTree makes the tree that a merge of two commits has.
func (s *Server) mergeTree(ctx context.Context, p *project, into, head string) (string, error) {
	out, err := git(ctx, s.repository(p), nil, nil, "merge-tree", "--write-tree", into, head)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", errConflict
	}
	tree, _, _ := strings.Cut(out, "\n")
	return strings.TrimSpace(tree), err
}

// What keeps a request from being merged that was to be, when its turn has come.
var (
	errNotOpen   = errors.New("the request is not open any more")
	errHeadMoved = errors.New("the head of the source branch has moved")
	errBlocked   = errors.New("something is in the way of the merge by now")
)

// mergeWish is how a request is to be merged, with the head that was checked.
type mergeWish struct {
	by                    user
	sha                   string
	message, squashing    string
	squash, removesSource bool
}

func (c *call) mergeNow() *failure {
	p, f := c.params()
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	mr, f := c.mergeRequest()
	if f == nil {
		f = c.mayMergeNow(mr, p)
	}
	if f != nil {
		c.s.mu.Unlock()
		return f
	}
	wish := mergeWish{by: c.person(), sha: mr.SHA, message: text(p, "merge_commit_message"), squashing: text(p, "squash_commit_message"), squash: mr.Squash, removesSource: mr.RemoveSource}
	if _, ok := p["squash"]; ok {
		wish.squash = truth(p, "squash")
	}
	if _, ok := p["should_remove_source_branch"]; ok {
		wish.removesSource = truth(p, "should_remove_source_branch")
	}
	pl := c.s.headPipeline(mr)
	if (truth(p, "auto_merge") || truth(p, "merge_when_pipeline_succeeds")) && pl != nil && !ended(pl.Status) {
		mr.AutoMergeBy, mr.Squash, mr.RemoveSource, mr.UpdatedAt = wish.by.ID, wish.squash, wish.removesSource, c.s.now()
		body := c.s.mergeRequestDetails(c, mr)
		c.s.save()
		c.s.mu.Unlock()
		return c.answer(body)
	}
	c.s.mu.Unlock()
	err := c.s.merge(mr, wish)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case errors.Is(err, errNotOpen), errors.Is(err, errBlocked):
		return failNotNow()
	case errors.Is(err, errHeadMoved):
		return failOtherHead(mr)
	case err != nil:
		return fail(http.StatusUnprocessableEntity, "Branch cannot be merged")
	}
	return c.changed(c.s.mergeRequestDetails(c, mr))
}

// mayMergeNow answers as GitLab does: 401 to who may not write to the target, 405 to what cannot be merged now, 422
// to a conflict, 409 to a head that is not the one the caller has seen.
func (c *call) mayMergeNow(mr *mergeRequest, p map[string]any) *failure {
	auto := truth(p, "auto_merge") || truth(p, "merge_when_pipeline_succeeds")
	status := c.s.detailedStatus(mr)
	switch {
	case !c.project.mayMerge(c.person(), mr.Target):
		return fail(http.StatusUnauthorized, "401 Unauthorized")
	case status == "conflict":
		return fail(http.StatusUnprocessableEntity, "Branch cannot be merged")
	case status != "mergeable" && (!auto || status != "ci_still_running"):
		return failNotNow()
	case text(p, "sha") != "" && text(p, "sha") != mr.SHA:
		return failOtherHead(mr)
	}
	return nil
}

func failNotNow() *failure { return fail(http.StatusMethodNotAllowed, "405 Method Not Allowed") }

func failOtherHead(mr *mergeRequest) *failure {
	return fail(http.StatusConflict, "SHA does not match HEAD of source branch: "+mr.SHA)
}

func (c *call) cancelAutoMerge(mr *mergeRequest) *failure {
	if mr.AutoMergeBy == 0 {
		return failNotNow()
	}
	mr.AutoMergeBy, mr.UpdatedAt = 0, c.s.now()
	return c.made(c.s.mergeRequestDetails(c, mr))
}

// mergeWhatMay merges the requests that waited for a pipeline, or lets them go where it failed or where something
// else is in the way by now; the caller holds the lock.
func (s *Server) mergeWhatMay(pl *pipeline) {
	if !ended(pl.Status) || s.closed {
		return
	}
	for _, mr := range sorted(s.st.MergeRequests, func(mr *mergeRequest) bool { return mr.AutoMergeBy != 0 && mr.State == "opened" && mr.SHA == pl.SHA }) {
		if s.headPipeline(mr) != pl {
			continue
		}
		by := s.in(s.st.Projects[mr.Project], s.user(mr.AutoMergeBy))
		mr.AutoMergeBy = 0
		if pl.Status != "success" {
			continue
		}
		wish := mergeWish{by: by, sha: mr.SHA, squash: mr.Squash, removesSource: mr.RemoveSource}
		s.work.Add(1)
		go func() {
			defer s.work.Done()
			_ = s.merge(mr, wish) // it stays open where the target has moved against it, as on GitLab, or what was checked holds no more
			s.mu.Lock()
			s.changed()
			s.mu.Unlock()
		}()
	}
}

// merge merges a request, and does what follows from it. Merges of a project take turns: each looks again whether its
// request is what was checked.
func (s *Server) merge(mr *mergeRequest, wish mergeWish) error {
	s.mu.Lock()
	p, source := s.st.Projects[mr.Project], s.st.Projects[mr.SourceProject]
	s.mu.Unlock()
	copied, before, after, err := s.mergeInTurn(p, mr, wish)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stopReviews(mr, wish.by.ID)
	removes := wish.removesSource && copied.Source != source.DefaultBranch && !source.protects(copied.Source, false)
	s.mu.Unlock()
	if removes {
		_, _ = git(s.ctx, s.repository(source), nil, nil, "update-ref", "-d", "refs/heads/"+copied.Source, copied.SHA) // a branch that moved stays
	}
	s.pushed(p, "refs/heads/"+copied.Target, before, after, wish.by.ID, pushOptions{})
	return nil
}

// stillMay says what keeps a request from being merged that was to be: approvals, the title and the rights of who
// wished it may have changed since. That its target has moved is no reason: the merge itself finds the conflicts, as
// GitLab checks again before it merges. The caller holds the lock.
func (s *Server) stillMay(mr mergeRequest, wish mergeWish) error {
	if mr.Status == "unchecked" || mr.Status == "checking" {
		mr.Status = "can_be_merged"
	}
	p := s.st.Projects[mr.Project]
	switch {
	case mr.State != "opened":
		return errNotOpen
	case mr.SHA != wish.sha:
		return errHeadMoved
	case s.detailedStatus(&mr) != "mergeable", !p.mayMerge(s.in(p, s.user(wish.by.ID)), mr.Target):
		return errBlocked
	}
	return nil
}

// mergeInTurn writes the merge and that it was made. It returns the request as it was merged, and where its target
// was and is.
func (s *Server) mergeInTurn(p *project, mr *mergeRequest, wish mergeWish) (copied mergeRequest, before, after string, err error) {
	lock := s.pushLock(p)
	lock.Lock()
	defer lock.Unlock()
	s.mu.Lock()
	copied = *mr
	err = s.stillMay(copied, wish)
	s.mu.Unlock()
	if err != nil {
		return copied, "", "", err
	}
	before, after, squashed, err := s.mergeCommits(p, &copied, wish)
	if err != nil {
		return copied, "", "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mr.State, mr.SHA, mr.MergeSHA, mr.SquashSHA, mr.MergedBy, mr.MergedAt, mr.UpdatedAt = "merged", copied.SHA, after, squashed, wish.by.ID, ptr(s.now()), s.now()
	s.save()
	return copied, before, after, nil
}

// mergeCommits writes the merge commit, and before it the squashed one where that is wished, and moves the target.
func (s *Server) mergeCommits(p *project, mr *mergeRequest, wish mergeWish) (before, after, squashed string, err error) {
	if before, _, err = s.resolve(s.ctx, p, "refs/heads/"+mr.Target); err != nil {
		return "", "", "", err
	}
	tree, err := s.mergeTree(s.ctx, p, before, mr.SHA)
	if err != nil {
		return "", "", "", err
	}
	commit := func(tree, message string, parents ...string) (string, error) {
		args := []string{"commit-tree", tree}
		for _, one := range parents {
			args = append(args, "-p", one)
		}
		out, err := git(s.ctx, s.repository(p), []byte(message), identity(wish.by.Name, wish.by.Email, wish.by), args...)
		return strings.TrimSpace(out), err
	}
	head := mr.SHA
	if wish.squash {
		message := wish.squashing
		if message == "" {
			message = mr.Title
		}
		if squashed, err = commit(mr.SHA+"^{tree}", message, mr.BaseSHA); err != nil {
			return "", "", "", err
		}
		head = squashed
	}
	message := wish.message
	if message == "" {
		message = "Merge branch '" + mr.Source + "' into '" + mr.Target + "'\n\n" + mr.Title + "\n\nSee merge request " + p.Path + "!" + id(mr.IID)
	}
	if after, err = commit(tree, message, before, head); err != nil {
		return "", "", "", err
	}
	return before, after, squashed, s.move(s.ctx, p, "refs/heads/"+mr.Target, before, after)
}
