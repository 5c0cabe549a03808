package helmrelease

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func secretOf(t *testing.T, text string) *corev1.Secret {
	t.Helper()
	data, err := pack([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "sh.helm.release.v1.orders.v3", Labels: map[string]string{"name": "orders", "version": "3"}},
		Type: recordType, Data: map[string][]byte{"release": data}}
}

const whole = `{"name":"orders","version":3,"info":{"status":"pending-upgrade","description":"Preparing upgrade","last_deployed":"2026-11-27T10:00:00Z"},` +
	`"chart":{"metadata":{"name":"orders","version":"1.0.0","annotations":{"slipway.dev/commit":"abc"}}},"apply_method":"ssa"}`

// TestRecordsThatCannotBeRead: none of them is a panic, in whatever way it is damaged.
func TestRecordsThatCannotBeRead(t *testing.T) {
	var bomb bytes.Buffer
	gz := gzip.NewWriter(&bomb)
	for range maxRecord>>20 + 1 {
		if _, err := gz.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		damage func(*corev1.Secret)
		want   string
	}{
		"not base64":       {func(s *corev1.Secret) { s.Data["release"] = []byte("%%%") }, "illegal base64"},
		"cut off":          {func(s *corev1.Secret) { s.Data["release"] = s.Data["release"][:40] }, "EOF"},
		"empty":            {func(s *corev1.Secret) { s.Data = nil }, "it is empty"},
		"another type":     {func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "of type"},
		"another release":  {func(s *corev1.Secret) { s.Labels["name"] = "other" }, `it is of revision 3 of release "orders"`},
		"another revision": {func(s *corev1.Secret) { s.Name = "sh.helm.release.v1.orders.v4" }, "it is of revision 3"},
		"no state": {func(s *corev1.Secret) {
			s.Data["release"] = []byte(base64.StdEncoding.EncodeToString([]byte(`{"name":"orders","version":3}`)))
		}, "it has no state"},
		"not an object": {func(s *corev1.Secret) { s.Data["release"] = []byte(base64.StdEncoding.EncodeToString([]byte(`[1]`))) }, "cannot unmarshal"},
		"a bomb":        {func(s *corev1.Secret) { s.Data["release"] = []byte(base64.StdEncoding.EncodeToString(bomb.Bytes())) }, "more than 64 MiB"},
	} {
		s := secretOf(t, whole)
		c.damage(s)
		if _, err := decode(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: decode: %v, want %q", name, err, c.want)
		}
		if _, err := glance(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: glance: %v, want %q", name, err, c.want)
		}
	}
}

func TestGlance(t *testing.T) {
	r, err := glance(secretOf(t, whole))
	if err != nil || r.Number != 3 || !r.Pending || r.Chart != "orders-1.0.0" || r.Annotations["slipway.dev/commit"] != "abc" || r.Updated.IsZero() {
		t.Errorf("read %+v, error %v", r, err)
	}
}

// TestEndedKeepsTheRest: what a later version of Helm notes in a record is not lost.
func TestEndedKeepsTheRest(t *testing.T) {
	raw, err := ended([]byte(whole), release.StatusFailed, "left by a job")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Method string `json:"apply_method"`
		Info   struct{ Status, Description, Last_deployed string }
	}
	if err := json.Unmarshal(raw, &got); err != nil || got.Method != "ssa" || got.Info.Status != "failed" || got.Info.Description != "left by a job" || got.Info.Last_deployed == "" {
		t.Errorf("became %s, error %v", raw, err)
	}
}

// TestRewrittenKeepsTheRest: nor is it when the record is written as a whole, and
// what we took away is gone.
func TestRewrittenKeepsTheRest(t *testing.T) {
	was := secretOf(t, whole)
	rel, err := decode(was)
	if err != nil {
		t.Fatal(err)
	}
	rel.Info.Status, rel.Config = release.StatusSuperseded, nil
	data, err := rewritten(was, rel)
	if err != nil {
		t.Fatal(err)
	}
	was.Data["release"] = data
	raw, err := unpack(was)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keysOf(json.RawMessage(raw))
	if err != nil || string(got["apply_method"]) != `"ssa"` || got["config"] != nil || !strings.Contains(string(got["info"]), `"superseded"`) {
		t.Errorf("became %s, error %v", raw, err)
	}
}

func TestRevisions(t *testing.T) {
	for _, c := range []struct {
		status, description string
		ready               bool
		origin              int
	}{
		{"deployed", "anything", true, 7},
		{"superseded", "Install complete", true, 7},
		{"superseded", "Upgrade complete", true, 7},
		{"superseded", "Rollback to 4", true, 4},
		{"superseded", "Rollback to 9", true, 7}, // there is no such thing
		{"superseded", `Upgrade "orders" failed: no`, false, 7},
		{"superseded", "left in state pending-install by job 3", false, 7},
		{"failed", "Rollback to 4", false, 4},
		{"pending-rollback", "Rollback to 4", false, 4},
	} {
		r := Revision{Number: 7, Status: c.status, Description: c.description}
		if r.WasReady() != c.ready || r.Origin() != c.origin {
			t.Errorf("%s, %q: ready %v, origin %d", c.status, c.description, r.WasReady(), r.Origin())
		}
	}
}
