package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// early is how long before its end a token is renewed.
const early = time.Minute

// tokenSource keeps a bearer token and renews it before it ends, so that a
// wait may last longer than a token.
type tokenSource struct {
	ask func(context.Context) (string, time.Time, error)
	now func() time.Time

	mu     sync.Mutex
	token  string
	expiry time.Time
}

func (s *tokenSource) get(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && s.now().Add(early).Before(s.expiry) {
		return s.token, nil
	}
	token, expiry, err := s.ask(ctx)
	if err != nil {
		return "", fmt.Errorf("renewing the cluster's token: %w", err)
	}
	s.token, s.expiry = token, expiry
	return token, nil
}

func (s *tokenSource) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		token, err := s.get(req.Context())
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+token)
		return next.RoundTrip(req)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
