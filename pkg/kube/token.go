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

// drop forgets a token that the cluster refused, unless it was replaced since.
func (s *tokenSource) drop(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
}

// wrap sends requests with the token. One that the cluster refuses before its
// time (a clock that is wrong, a session that was ended) is replaced once: a
// second refusal is about who we are.
func (s *tokenSource) wrap(next http.RoundTripper) http.RoundTripper {
	send := func(req *http.Request) (*http.Response, string, error) {
		token, err := s.get(req.Context())
		if err != nil {
			return nil, "", err
		}
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := next.RoundTrip(req)
		return resp, token, err
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, token, err := send(req)
		again := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !again {
			return resp, err
		}
		s.drop(token)
		fresh, err := s.get(req.Context())
		if err != nil || fresh == token {
			return resp, nil //nolint:nilerr // the cluster's own answer says more
		}
		second := req.Clone(req.Context())
		if req.GetBody != nil {
			if second.Body, err = req.GetBody(); err != nil {
				return resp, nil //nolint:nilerr // as above
			}
		}
		_ = resp.Body.Close()
		resp, _, err = send(second)
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
