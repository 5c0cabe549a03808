package gitlabapitest

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Server is one GitLab instance. It is an http.Handler; whoever serves it chooses the listener, which must answer
// at Config.Endpoint before the first pipeline starts, since jobs and includes come back over it.
type Server struct {
	cfg     Config
	key     *rsa.PrivateKey
	keyID   string
	include string // the secret behind the passwords by which pipelines fetch their includes
	handler http.Handler
	ctx     context.Context
	stop    context.CancelFunc
	work    sync.WaitGroup

	offset      atomic.Int64 // of the clock, in nanoseconds
	limits      limits
	faults      faults
	mu          sync.Mutex
	st          *state
	broken      error
	running     map[int64]*run
	subscribers map[chan struct{}]struct{}
	pushing     map[int64]*sync.Mutex
	closed      bool
}

// New makes the server: it reads the state under Root, adds what the configuration has and the state has not, makes
// the repositories, and settles every job that was running when the last server stopped.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"repositories", "packages", "builds"} {
		if err := os.MkdirAll(cfg.Root+"/"+dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the gitlab server's folders: %w", err)
		}
	}
	s := &Server{cfg: cfg, include: randomHex(20), running: map[int64]*run{}, subscribers: map[chan struct{}]struct{}{}, pushing: map[int64]*sync.Mutex{}}
	var err error
	if s.st, err = loadState(s.path("state.json")); err != nil {
		return nil, err
	}
	s.offset.Store(int64(s.st.ClockOffset))
	s.limits.replace(s.st.Limits)
	if s.key, s.keyID, err = loadKey(s.path("id-token-key.pem")); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, p := range cfg.Projects {
		if err := s.addProject(p); err != nil {
			s.stop()
			return nil, err
		}
	}
	s.handler = s.routes()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopt()
	s.save()
	s.work.Add(1)
	go s.runSchedules()
	return s, s.broken
}

func (s *Server) addProject(p Project) error {
	if p.DefaultBranch == "" {
		p.DefaultBranch = "main"
	}
	if s.st.Projects[p.ID] == nil {
		s.st.Projects[p.ID] = &project{Project: p, SubComponents: p.SubClaimComponents, Allowlist: slices.Clone(p.JobTokenAllowlist), CreatedAt: s.now()}
	}
	kept := s.st.Projects[p.ID]
	fill(&kept.Members)
	if kept.Protections == nil {
		kept.Protections = s.configured(p)
	}
	namespace, _, _ := cutLast(p.Path, "/")
	kept.Group = s.groupOf(namespace).ID
	return s.makeRepository(kept)
}

// groupOf finds or makes the group of a path.
func (s *Server) groupOf(path string) *group {
	for _, g := range s.st.Groups {
		if g.Path == path {
			return g
		}
	}
	g := &group{ID: s.st.next("group") + 2, Path: path}
	s.st.Groups[g.ID] = g
	return g
}

// ServeHTTP answers the API, git over HTTP, OIDC discovery and the event stream.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	if broken != nil {
		reply(w, http.StatusInternalServerError, map[string]string{"message": "500 Internal Server Error - " + broken.Error()})
		return
	}
	s.handler.ServeHTTP(w, r)
}

// Close ends the running jobs, which then count as failed, and waits until their processes are gone.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		for _, r := range s.running {
			r.end("runner_system_failure")
		}
	}
	s.changed()
	s.mu.Unlock()
	s.work.Wait()
	s.stop()
}

// beside runs something beside the calls, which Close waits for. The caller does not hold the lock.
func (s *Server) beside(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		do()
	}()
}

func (s *Server) projectByPath(path string) *project {
	for _, p := range s.st.Projects {
		if strings.EqualFold(p.Path, path) {
			return p
		}
	}
	return nil
}

// changed tells everyone who watches that some state moved; the caller holds the lock.
func (s *Server) changed() {
	for ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (s *Server) subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.subscribers[ch] = struct{}{}
	s.mu.Unlock()
	return ch, func() {
		s.mu.Lock()
		delete(s.subscribers, ch)
		s.mu.Unlock()
	}
}

var errNoRunner = errors.New("no runner is configured: set Runner.Command to gitlab-ci-local")
