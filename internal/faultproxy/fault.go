package faultproxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault is what happens to a call.
type Fault struct {
	kind  kind
	delay time.Duration
	code  int
	body  Body
}

type kind int

const (
	none kind = iota
	dropBefore
	dropAfter
	delay
	throttle
	status
	wrongBody
)

// DropBefore closes the connection; the part never sees the call.
func DropBefore() Fault { return Fault{kind: dropBefore} }

// DropAfter closes the connection once the part has done the call.
func DropAfter() Fault { return Fault{kind: dropAfter} }

// Delay hands the call on after a time.
func Delay(d time.Duration) Fault { return Fault{kind: delay, delay: d} }

// Throttle refuses the call in the part's own words, with the time after which
// to try again (whole seconds) where the part tells one. The part never sees it.
func Throttle(after time.Duration) Fault { return Fault{kind: throttle, delay: after} }

// Status answers with 500 to 504 in the part's place, as the part or what stands
// before it would. The part never sees the call.
func Status(code int) Fault { return Fault{kind: status, code: code} }

// WrongBody lets the part do the call, and spoils its reply.
func WrongBody(b Body) Fault { return Fault{kind: wrongBody, body: b} }

// Body is how a reply is spoiled.
type Body int

// The spoiled replies.
const (
	Truncated Body = iota // half of it, and the connection is closed
	Cut                   // half of it, and HTTP says that this is all
	Garbage               // as long as it was, and nothing that can be read
	Page                  // 200 and the HTML page of somebody in between
	Oversized             // what it was, and OversizedBy bytes more
)

// OversizedBy is more than any of our clients should read.
const OversizedBy = 64 << 20

// String returns the fault as the log names it.
func (f Fault) String() string {
	switch f.kind {
	case dropBefore:
		return "drop before"
	case dropAfter:
		return "drop after"
	case delay:
		return "delay " + f.delay.String()
	case throttle:
		return "throttle"
	case status:
		return "status " + strconv.Itoa(f.code)
	case wrongBody:
		return "wrong body: " + []string{"truncated", "cut", "garbage", "page", "oversized"}[f.body]
	}
	return ""
}

// most bounds a reply that is held in memory to be spoiled.
const most = 64 << 20

// spoil changes the part's reply. An upgraded connection and a stream, whose
// body ends who knows when, pass as they are.
func (f Fault) spoil(resp *http.Response) error {
	if f.kind != wrongBody || resp.StatusCode == http.StatusSwitchingProtocols || streams(resp.Request) {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("reading the reply to spoil: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("reading the reply to spoil: %w", err)
	}
	whole := func(b []byte) { resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b)) }
	switch f.body {
	case Truncated:
		resp.Body, resp.ContentLength = &broken{bytes.NewReader(raw[:len(raw)/2])}, int64(len(raw))
	case Cut:
		whole(raw[:len(raw)/2])
	case Garbage:
		whole(bytes.Repeat([]byte{'\x00', '<', '{', '\xff'}, len(raw)/4+1))
	case Page:
		resp.StatusCode = http.StatusOK
		resp.Header = http.Header{"Content-Type": {"text/html; charset=utf-8"}}
		whole([]byte(page("Sign in to the network")))
	case Oversized:
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(raw), io.LimitReader(spaces{}, OversizedBy)))
		resp.ContentLength = -1
	}
	resp.TransferEncoding = nil
	resp.Header.Del("Content-Length")
	if resp.ContentLength >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	return nil
}

// streams reports whether a request asks Kubernetes for what comes.
func streams(r *http.Request) bool {
	on := func(name string) bool {
		v, err := strconv.ParseBool(r.URL.Query().Get(name))
		return err == nil && v
	}
	return on("watch") || on("follow")
}

func page(title string) string {
	return strings.ReplaceAll("<!DOCTYPE html>\n<html><head><title>TITLE</title></head><body><h1>TITLE</h1></body></html>\n", "TITLE", title)
}

// broken is a body that ends before its time.
type broken struct{ io.Reader }

// Read returns an error where the body ends.
func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes nothing.
func (b *broken) Close() error { return nil }

// spaces never ends; JSON and XML may have them at their end.
type spaces struct{}

// Read fills p.
func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
