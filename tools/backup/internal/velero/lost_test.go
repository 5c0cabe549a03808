package velero

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// server is an API server that cannot be had from a real one at will: it drops
// replies, and its cache is behind what it stores.
type server struct {
	mu     sync.Mutex
	stored map[string]json.RawMessage // path to object
	drop   bool                       // connections of a create, unstored
	lose   bool                       // the reply to a create
	dead   bool                       // from the create on
}

func (s *server) client(t *testing.T) *Client {
	t.Helper()
	s.stored = map[string]json.RawMessage{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	cluster, err := kube.New(kube.Config{Endpoint: h.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Cluster: cluster, Namespace: "velero", Progress: t.Logf, Stall: time.Minute}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	q := r.URL.Query()
	switch object, found := s.stored[r.URL.Path]; {
	case r.Method == http.MethodPost:
		var body struct{ Metadata struct{ Name string } }
		var raw json.RawMessage
		if json.NewDecoder(r.Body).Decode(&raw) != nil || json.Unmarshal(raw, &body) != nil || s.drop {
			panic(http.ErrAbortHandler)
		}
		s.stored[r.URL.Path+"/"+body.Metadata.Name] = raw
		if s.lose || s.dead {
			panic(http.ErrAbortHandler)
		}
		answer(http.StatusCreated, raw)
	case s.dead:
		answer(http.StatusInternalServerError, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500})
	case found:
		answer(http.StatusOK, object)
	case !strings.HasSuffix(r.URL.Path, "/backups"):
		answer(http.StatusNotFound, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	case q.Get("sendInitialEvents") != "":
		answer(http.StatusUnprocessableEntity, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422})
	case q.Get("watch") != "":
		for _, one := range s.stored {
			answer(http.StatusOK, map[string]any{"type": "ADDED", "object": one})
		}
		w.(http.Flusher).Flush()
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
	default:
		answer(http.StatusOK, map[string]any{"kind": "BackupList", "apiVersion": "velero.io/v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}})
	}
}

var done = Backup{Meta: Meta{Name: "it", Namespace: "velero"}, Status: BackupStatus{Phase: Completed}}

// TestCreateUnanswered: a reply that is lost is neither a failure nor a success
// before the cluster was asked.
func TestCreateUnanswered(t *testing.T) {
	for name, c := range map[string]struct {
		server *server
		code   int
	}{
		"made":            {&server{lose: true}, 0},
		"not made":        {&server{drop: true}, tool.Temporary},
		"nobody can tell": {&server{dead: true}, tool.Broken},
	} {
		if err := c.server.client(t).CreateBackup(t.Context(), done); tool.CodeOf(err) != c.code {
			t.Errorf("%s: %v (code %d), want code %d", name, err, tool.CodeOf(err), c.code)
		}
	}
}

// TestCacheBehind: an object that the server's first list does not hold yet was
// not deleted; one that the server does not have was.
func TestCacheBehind(t *testing.T) {
	c := (&server{}).client(t)
	if err := c.CreateBackup(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if b, err := c.WaitBackup(t.Context(), "it"); err != nil || b.Status.Phase != Completed {
		t.Errorf("ended %q, %v", b.Status.Phase, err)
	}
	if _, err := c.WaitBackup(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "it is gone") {
		t.Errorf("waiting for nothing ended with %v", err)
	}
}
