package awsfront

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// identity is who a set of credentials belongs to: a user's access key or a
// role's session.
type identity struct {
	Account   string    `json:"account"`
	ARN       string    `json:"arn"`    // of the user, or of the assumed role's session
	UserID    string    `json:"userId"` // AIDA..., or AROA...:session
	Secret    string    `json:"secret"`
	Role      string    `json:"role,omitempty"` // ARN of the session's role
	Session   string    `json:"session,omitempty"`
	Token     string    `json:"token,omitempty"`
	Source    string    `json:"sourceIdentity,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	Disabled  bool      `json:"disabled,omitempty"`
	Permanent bool      `json:"permanent,omitempty"` // the seeded administrator's
	Issued    time.Time `json:"issued,omitzero"`

	Policies   []string          `json:"policies,omitempty"`   // session policies
	Tags       map[string]string `json:"tags,omitempty"`       // of the session
	Transitive []string          `json:"transitive,omitempty"` // keys of tags that a chained session inherits
}

func (i identity) principal() principal {
	return principal{account: i.Account, arn: i.ARN, role: i.Role}
}

// data is what the front keeps beside moto.
type data struct {
	// Moto is the unique ID of the administrator's user in moto. moto keeps
	// everything in memory: another ID, or none, is another moto, and all that
	// refers to the old one is void.
	Moto     string                             `json:"moto"`
	Keys     map[string]identity                `json:"keys"`
	Entries  map[string]map[string]*accessEntry `json:"entries"`   // cluster, principal ARN
	Trails   map[string]*trail                  `json:"trails"`    // ARN
	Accounts map[string]creation                `json:"creations"` // ID of the request
	Policies map[string]string                  `json:"policies"`  // bucket
	Buckets  map[string]string                  `json:"buckets"`   // bucket to the account that made it
}

func (d *data) fill() {
	if d.Keys == nil {
		d.Keys = map[string]identity{}
	}
	if d.Entries == nil {
		d.Entries = map[string]map[string]*accessEntry{}
	}
	if d.Trails == nil {
		d.Trails = map[string]*trail{}
	}
	if d.Buckets == nil {
		d.Buckets = map[string]string{}
	}
	if d.Policies == nil {
		d.Policies = map[string]string{}
	}
	if d.Accounts == nil {
		d.Accounts = map[string]creation{}
	}
}

// store guards the data and writes it after every change.
type store struct {
	mu   sync.Mutex
	file string
	now  func() time.Time
	data data
}

func openStore(file string, now func() time.Time) (*store, error) {
	s := &store{file: file, now: now}
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the front's state: %w", err)
	default:
		if err := json.Unmarshal(raw, &s.data); err != nil {
			return nil, fmt.Errorf("parsing the front's state %q: %w", file, err)
		}
	}
	s.data.fill()
	return s, nil
}

// read runs f with the data; f must not keep references.
func (s *store) read(f func(*data)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.data)
}

// change runs f and writes the data, unless f refuses. f must check before it
// changes.
func (s *store) change(f func(*data) *apiError) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := f(&s.data); refused != nil {
		return refused
	}
	if err := s.save(); err != nil {
		return refuse(500, "InternalFailure", "%v", err)
	}
	return nil
}

// save writes beside the file and renames, so that a kill leaves the old or
// the new state, never half of one.
func (s *store) save() error {
	horizon := s.now().Add(-24 * time.Hour) // long enough to answer ExpiredToken
	for key, id := range s.data.Keys {
		if !id.Expires.IsZero() && id.Expires.Before(horizon) {
			delete(s.data.Keys, key)
		}
	}
	raw, err := json.Marshal(s.data)
	if err != nil {
		return fmt.Errorf("encoding the front's state: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(s.file), filepath.Base(s.file)+".*") // 0600
	if err != nil {
		return fmt.Errorf("writing the front's state: %w", err)
	}
	_, err = temp.Write(raw)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), s.file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the front's state: %w", err), os.Remove(temp.Name()))
	}
	return nil
}

func (s *store) key(accessKey string) (identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.data.Keys[accessKey]
	return id, ok
}
