package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
)

// images is the registry, with its manifests kept as well: the library keeps
// blobs on disk and manifests in memory only. Every change of a manifest goes
// to a file, which is played back when the registry starts.
type images struct {
	registry http.Handler
	mu       sync.Mutex // a change and its line are one step
	file     *os.File
}

type manifestChange struct {
	Method, Path, Type string
	Body               []byte
}

func newImages(ctx context.Context, dir string, options ...registry.Option) (*images, error) {
	options = append(options, registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.WithReferrersSupport(true))
	i := &images{registry: registry.New(options...)}
	path := filepath.Join(dir, "manifests.jsonl")
	if err := i.playBack(ctx, path); err != nil {
		return nil, fmt.Errorf("reading the registry's manifests: %w", err)
	}
	var err error
	if i.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("opening the registry's manifests: %w", err)
	}
	return i, nil
}

func (i *images) playBack(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a line without its end was never answered
		}
		if err != nil {
			return err
		}
		var c manifestChange
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		if code := i.apply(ctx, c).Code; code >= 300 {
			return fmt.Errorf("%s %s is answered %d", c.Method, c.Path, code)
		}
	}
}

func (i *images) apply(ctx context.Context, c manifestChange) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, c.Method, c.Path, bytes.NewReader(c.Body))
	r.Header.Set("Content-Type", c.Type)
	w := httptest.NewRecorder()
	i.registry.ServeHTTP(w, r)
	return w
}

// ServeHTTP answers the registry's API.
func (i *images) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/manifests/") || r.Method != http.MethodPut && r.Method != http.MethodDelete {
		i.registry.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 32<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := manifestChange{Method: r.Method, Path: r.URL.Path, Type: r.Header.Get("Content-Type"), Body: body}
	i.mu.Lock()
	defer i.mu.Unlock()
	done := i.apply(r.Context(), c)
	if done.Code < 300 {
		line, err := json.Marshal(c)
		if err == nil {
			_, err = i.file.Write(append(line, '\n'))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for name, values := range done.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(done.Code)
	_, _ = w.Write(done.Body.Bytes()) // a client that is gone needs no answer
}
