package awsfront

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	amzTime    = "20060102T150405Z"
	emptyHash  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	unsigned   = "UNSIGNED-PAYLOAD"
	maxSkew    = 15 * time.Minute
	hashHeader = "X-Amz-Content-Sha256"
)

// signature is what a request says of how it was signed, in its Authorization
// header or, presigned, in its query.
type signature struct {
	accessKey, date, region, service string
	signed                           []string
	value, token                     string
	time                             time.Time
	expires                          time.Duration // presigned only
	presigned                        bool
}

var errUnsigned = errors.New("reading the signature: the request carries none")

// readSignature returns the request's signature, errUnsigned without one.
func readSignature(r *http.Request) (*signature, error) {
	q := r.URL.Query()
	auth := r.Header.Get("Authorization")
	s := &signature{}
	var credential, signedHeaders, at string
	switch {
	case strings.HasPrefix(auth, algorithm+" "):
		for part := range strings.SplitSeq(strings.TrimPrefix(auth, algorithm+" "), ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch key {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signedHeaders = value
			case "Signature":
				s.value = value
			}
		}
		at, s.token = r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Security-Token")
	case auth == "" && q.Get("X-Amz-Algorithm") == algorithm:
		s.presigned = true
		credential, signedHeaders, s.value = q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")
		at, s.token = q.Get("X-Amz-Date"), q.Get("X-Amz-Security-Token")
		seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
		if q.Has("X-Amz-Expires") && (err != nil || seconds < 0 || seconds > 7*24*3600) {
			return nil, fmt.Errorf("reading the signature: X-Amz-Expires %q is no number of seconds up to a week", q.Get("X-Amz-Expires"))
		}
		s.expires = time.Duration(seconds) * time.Second
	case auth != "":
		return nil, errors.New("reading the signature: the Authorization header is no " + algorithm)
	default:
		return nil, errUnsigned
	}
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || s.value == "" || signedHeaders == "" {
		return nil, errors.New("reading the signature: credential, signed headers or signature are incomplete")
	}
	s.accessKey, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	s.signed = strings.Split(signedHeaders, ";")
	var err error
	if s.time, err = time.Parse(amzTime, at); err != nil || !strings.HasPrefix(at, s.date) {
		return nil, fmt.Errorf("reading the signature: the date %q is no time of the credential's day %q", at, s.date)
	}
	if !slices.Contains(s.signed, "host") {
		return nil, errors.New("reading the signature: the host is not signed")
	}
	return s, nil
}

// matches reports whether the request was signed with the secret. payload is
// the hash of the body as it arrived, or what an S3 client declared it to be.
// extra gives headers that are not in the request (an EKS token's cluster).
func (s *signature) matches(r *http.Request, secret, payload string, extra map[string]string) bool {
	canonical := strings.Join([]string{
		r.Method, s.canonicalPath(r.URL), canonicalQuery(r.URL.RawQuery), s.canonicalHeaders(r, extra), strings.Join(s.signed, ";"), payload,
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, s.time.Format(amzTime), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hmac.Equal([]byte(hex.EncodeToString(key)), []byte(s.value))
}

// canonicalPath is the path as it was sent; all services but S3 escape it once
// more for the signature.
func (s *signature) canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if s.service == "s3" {
		return path
	}
	return strings.ReplaceAll(uriEncode(path), "%2F", "/")
}

func (s *signature) canonicalHeaders(r *http.Request, extra map[string]string) string {
	var b strings.Builder
	for _, name := range s.signed {
		values := slices.Clone(r.Header.Values(name)) // trimmed below; the request keeps its own
		switch {
		case name == "host":
			values = []string{r.Host}
		case name == "content-length" && len(values) == 0:
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		case extra[name] != "":
			values = []string{extra[name]}
		}
		for i, v := range values {
			values[i] = strings.Join(strings.Fields(v), " ")
		}
		b.WriteString(name + ":" + strings.Join(values, ",") + "\n")
	}
	return b.String()
}

func canonicalQuery(raw string) string {
	var pairs [][2]string
	for part := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(part, "=")
		if part == "" || key == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, [2]string{reencode(key), reencode(value)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if c := strings.Compare(a[0], b[0]); c != 0 {
			return c
		}
		return strings.Compare(a[1], b[1])
	})
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = p[0] + "=" + p[1]
	}
	return strings.Join(out, "&")
}

func reencode(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		plain = s
	}
	return uriEncode(plain)
}

// uriEncode escapes everything but RFC 3986's unreserved characters.
func uriEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
