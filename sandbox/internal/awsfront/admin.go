package awsfront

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// serveOwn answers the front's own addresses, which are not AWS's. But for the
// health and the clusters' webhook they are for this machine only.
func (f *Front) serveOwn(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path := strings.TrimPrefix(r.URL.Path, "/_slipway/")
	switch {
	case r.Method == http.MethodGet && path == "health":
		if err := f.moto.alive(r.Context()); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "down", "message": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		return
	case r.Method == http.MethodPost && strings.HasPrefix(path, "eks/") && strings.HasSuffix(path, "/authenticate"):
		f.authenticateToken(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "eks/"), "/authenticate"))
		return
	case !fromHere(r):
		writeJSON(w, http.StatusForbidden, map[string]string{"message": "this address is for the machine that the sandbox runs on"})
		return
	}
	answer, err := f.administer(r, path)
	switch {
	case err != nil:
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
	case answer == nil:
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such address of the front: " + r.Method + " " + r.URL.Path})
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

// administer reads and changes what the front counts and how it behaves; nil
// is an address that it does not have.
func (f *Front) administer(r *http.Request, path string) (any, error) {
	switch r.Method + " " + path {
	case "GET calls":
		return f.counter.report(), nil
	case "POST calls/reset":
		f.counter.reset()
		return f.counter.report(), nil
	case "GET calls/log":
		var after int64
		if text := r.URL.Query().Get("after"); text != "" {
			var err error
			if after, err = strconv.ParseInt(text, 10, 64); err != nil {
				return nil, fmt.Errorf("reading the sequence number %q: %w", text, err)
			}
		}
		return f.counter.log(after), nil
	case "GET settings":
		return f.settings.get(), nil
	case "PUT settings":
		var s Settings
		if err := readOwn(r, &s); err != nil {
			return nil, err
		}
		if err := checkFailures(s.AccountFailures); err != nil {
			return nil, err
		}
		f.settings.put(s)
		f.throttle.reset()
		return s, nil
	case "GET faults":
		return f.faults.all(), nil
	case "POST faults":
		var fault Fault
		if err := readOwn(r, &fault); err != nil {
			return nil, err
		}
		return f.faults.add(fault)
	case "DELETE faults":
		f.faults.clear()
		return f.faults.all(), nil
	}
	return nil, nil
}

func readOwn(r *http.Request, into any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	return nil
}

// fromHere reports whether the request is one of the machine's own processes.
// What a real node forwards for its pods comes over the loopback as well, but
// from another of its addresses.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && (host == "127.0.0.1" || host == "::1")
}
