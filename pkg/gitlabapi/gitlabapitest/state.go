package gitlabapitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// state is everything that outlives the process, in one file. The figures are small (a sandbox has tens of
// pipelines), so it is written as a whole, aside and renamed, at every change.
type state struct {
	Last         map[string]int64       `json:"last"`
	Projects     map[int64]*project     `json:"projects"`
	Pipelines    map[int64]*pipeline    `json:"pipelines"`
	Jobs         map[int64]*job         `json:"jobs"`
	Environments map[int64]*environment `json:"environments"`
	Deployments  map[int64]*deployment  `json:"deployments"`
	Packages     map[int64]*pkg         `json:"packages"`

	CreatedAt      time.Time                `json:"created_at"`
	ClockOffset    time.Duration            `json:"clock_offset,omitempty"`
	Limits         map[string]limit         `json:"limits,omitempty"`
	Groups         map[int64]*group         `json:"groups"`
	Bots           map[int64]*bot           `json:"bots"`
	AccessTokens   map[int64]*accessToken   `json:"access_tokens"`
	Variables      map[int64]*variable      `json:"variables"`
	Freezes        map[int64]*freeze        `json:"freezes"`
	Schedules      map[int64]*schedule      `json:"schedules"`
	ResourceGroups map[int64]*resourceGroup `json:"resource_groups"`
	ProtectedEnvs  map[int64]*protectedEnv  `json:"protected_environments"`
	MergeRequests  map[int64]*mergeRequest  `json:"merge_requests"`
	ApprovalRules  map[int64]*approvalRule  `json:"approval_rules"`
	Notes          map[int64]*note          `json:"notes"`
	Releases       map[int64]*release       `json:"releases"`
	TFStates       map[int64]*tfState       `json:"terraform_states"`
}

// group is the namespace of projects.
type group struct {
	ID   int64  `json:"id"`
	Path string `json:"path"`
}

type project struct {
	Project
	SubComponents []string        `json:"sub_components"`
	Allowlist     []int64         `json:"allowlist"`
	AllowedGroups []int64         `json:"allowed_groups,omitempty"`
	Group         int64           `json:"group"`
	Members       map[int64]int   `json:"members"` // access levels, where they differ from those of the instance
	Protections   []*protectedRef `json:"protections"`
	GreenMerges   bool            `json:"green_merges"`         // only_allow_merge_if_pipeline_succeeds
	GroupMode     string          `json:"group_mode,omitempty"` // resource_group_default_process_mode
	CreatedAt     time.Time       `json:"created_at"`
}

type pipeline struct {
	ID         int64             `json:"id"`
	IID        int64             `json:"iid"`
	Project    int64             `json:"project"`
	Ref        string            `json:"ref"`
	Tag        bool              `json:"tag"`
	SHA        string            `json:"sha"`
	Commit     commit            `json:"commit"` // of the SHA, as its jobs show it
	BeforeSHA  string            `json:"before_sha"`
	Source     string            `json:"source"`
	User       int64             `json:"user"`
	Status     string            `json:"status"`
	YAMLErrors string            `json:"yaml_errors,omitempty"`
	Name       string            `json:"name,omitempty"`
	Stages     []string          `json:"stages"`
	Variables  map[string]string `json:"variables,omitempty"`
	Schedule   int64             `json:"schedule,omitempty"`
	// Of a merge request's pipeline: the request, the project and branch it comes from (Ref), and its target.
	MergeRequest  int64      `json:"merge_request,omitempty"`
	SourceProject int64      `json:"source_project,omitempty"`
	TargetRef     string     `json:"target_ref,omitempty"`
	HeadRef       string     `json:"head_ref,omitempty"` // refs/merge-requests/1/head
	Fork          bool       `json:"fork,omitempty"`     // the source is another project than the target
	CreatedAt     time.Time  `json:"created_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
	StartedAt     *time.Time `json:"started_at"`
	FinishedAt    *time.Time `json:"finished_at"`
}

type job struct {
	ID            int64      `json:"id"`
	Pipeline      int64      `json:"pipeline"`
	Project       int64      `json:"project"`
	User          int64      `json:"user"`
	Definition    definition `json:"definition"`
	Status        string     `json:"status"`
	Retried       bool       `json:"retried"`
	ExitCode      *int       `json:"exit_code"`
	FailureReason string     `json:"failure_reason,omitempty"`
	// Tolerated says that the job failed and was allowed to, by allow_failure or its exit codes.
	Tolerated  bool       `json:"tolerated"`
	Archive    int64      `json:"archive,omitempty"` // the size of its artifacts, zipped
	Deployment int64      `json:"deployment,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	QueuedAt   *time.Time `json:"queued_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	// The runner process and its start time, by which a restarted server knows it from a stranger with the same number.
	PID      int    `json:"pid,omitempty"`
	PIDStart string `json:"pid_start,omitempty"`
	// TokenHash is the SHA-256 of the job token, while the job runs.
	TokenHash string `json:"token_hash,omitempty"`
}

type environment struct {
	ID          int64      `json:"id"`
	Project     int64      `json:"project"`
	Name        string     `json:"name"`
	ExternalURL string     `json:"external_url"`
	Description string     `json:"description"`
	Tier        string     `json:"tier"`
	State       string     `json:"state"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	AutoStopAt  *time.Time `json:"auto_stop_at,omitempty"`
}

type deployment struct {
	ID          int64      `json:"id"`
	IID         int64      `json:"iid"`
	Project     int64      `json:"project"`
	Environment int64      `json:"environment"`
	Ref         string     `json:"ref"`
	Tag         bool       `json:"tag"`
	SHA         string     `json:"sha"`
	Status      string     `json:"status"`
	User        int64      `json:"user"`
	Job         int64      `json:"job,omitempty"`
	Approvals   []approval `json:"approvals,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	FinishedAt  *time.Time `json:"finished_at"`
}

type pkg struct {
	ID        int64     `json:"id"`
	Project   int64     `json:"project"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	Files     []pkgFile `json:"files"`
}

type pkgFile struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Size      int64     `json:"size"`
	SHA256    string    `json:"sha256"`
	SHA1      string    `json:"sha1,omitempty"`
	MD5       string    `json:"md5,omitempty"`
	Pipeline  int64     `json:"pipeline,omitempty"` // whose job has published it
	CreatedAt time.Time `json:"created_at"`
}

func (st *state) next(kind string) int64 {
	st.Last[kind]++
	return st.Last[kind]
}

func loadState(file string) (*state, error) {
	st := &state{}
	data, err := os.ReadFile(file)
	if err == nil {
		if err = json.Unmarshal(data, st); err != nil {
			return nil, fmt.Errorf("reading the gitlab server's state %q: %w", file, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the gitlab server's state: %w", err)
	}
	fill(&st.Last)
	fill(&st.Projects)
	fill(&st.Pipelines)
	fill(&st.Jobs)
	fill(&st.Environments)
	fill(&st.Deployments)
	fill(&st.Packages)
	fill(&st.Groups)
	fill(&st.Bots)
	fill(&st.AccessTokens)
	fill(&st.Variables)
	fill(&st.Freezes)
	fill(&st.Schedules)
	fill(&st.ResourceGroups)
	fill(&st.ProtectedEnvs)
	fill(&st.MergeRequests)
	fill(&st.ApprovalRules)
	fill(&st.Notes)
	fill(&st.Releases)
	fill(&st.TFStates)
	if st.CreatedAt.IsZero() {
		st.CreatedAt = time.Now().UTC()
	}
	return st, nil
}

func fill[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = map[K]V{}
	}
}

func writeAtomically(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// save writes the state; the caller holds the lock. A server that cannot write its state says so in every answer
// that follows (see broken), rather than losing what it promised to keep.
func (s *Server) save() {
	data, err := json.Marshal(s.st)
	if err == nil {
		err = writeAtomically(s.path("state.json"), data)
	}
	s.broken = err
}

func (s *Server) path(elem ...string) string {
	return filepath.Join(append([]string{s.cfg.Root}, elem...)...)
}

// sorted returns the values of a table that keep says yes to, oldest first.
func sorted[V any](m map[int64]*V, keep func(*V) bool) []*V {
	ids := make([]int64, 0, len(m))
	for id, v := range m {
		if keep(v) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	out := make([]*V, len(ids))
	for i, id := range ids {
		out[i] = m[id]
	}
	return out
}

// pipelineJobs are the jobs of a pipeline in order, without attempts that were retried.
func (st *state) pipelineJobs(id int64) []*job {
	return sorted(st.Jobs, func(j *job) bool { return j.Pipeline == id && !j.Retried })
}

// now is the instance's time, which the control endpoint can move. The caller holds the lock, or does not care
// about a move at the same moment.
func (s *Server) now() time.Time {
	return time.Now().Add(time.Duration(s.offset.Load())).UTC().Truncate(time.Millisecond)
}

func ptr[T any](v T) *T { return &v }
