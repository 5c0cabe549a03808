package evidence

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/rollout"
)

func TestSavedIsMaskedAndReadAgain(t *testing.T) {
	log := joblog.New(&strings.Builder{}, false)
	log.Redact(`se"cr<et`)
	key := "-----BEGIN PRIVATE KEY-----\nTUlJRXZRSUJBREFOQmdrcWhraUc5dzBCQVFFRkFB\n-----END PRIVATE KEY-----"
	b := rollout.Bundle{Release: "orders", Namespace: "shop", Revision: 3, Diff: "+ password: se\"cr<et\n", Error: `it said se"cr<et`, Evidence: []rollout.Evidence{{
		Workload: rollout.Ref{Kind: "Deployment", Name: "orders"},
		Logs:     []rollout.Log{{Pod: "p", Container: "app", Text: "login with se\"cr<et\x1b[2J\n" + key + "\nno licence\n"}},
		Events:   []*corev1.Event{{Message: `Liveness probe failed: token se"cr<et`}},
	}}}
	path, err := Save(t.TempDir(), b, log.Mask)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{`cr<et`, `cr\u003cet`, "TUlJRXZRSUJBREFOQmdr", `\u001b`} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the file has %q:\n%s", secret, raw)
		}
	}
	got, err := Read(path)
	if err != nil || got.Revision != 3 || !strings.Contains(got.Evidence[0].Logs[0].Text, "no licence") {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestSavedIsBounded(t *testing.T) {
	var e rollout.Evidence
	for range 40 {
		e.Logs = append(e.Logs, rollout.Log{Pod: "p", Container: "app", Text: strings.Repeat("x", 512<<10) + "\nthe last line\n"})
		e.Events = append(e.Events, &corev1.Event{Message: strings.Repeat("y", 64<<10)})
	}
	path, err := Save(t.TempDir(), rollout.Bundle{Release: "orders", Evidence: []rollout.Evidence{e}, Diff: strings.Repeat("z", 8<<20)}, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxBytes+1 {
		t.Fatalf("%d bytes, %v", info.Size(), err)
	}
	got, err := Read(path)
	if err != nil || len(got.Notes) != 1 || !strings.HasSuffix(got.Evidence[0].Logs[0].Text, "the last line\n") {
		t.Errorf("read %d notes, %v", len(got.Notes), err)
	}
}

func TestUnreadable(t *testing.T) {
	path := t.TempDir() + "/x.json"
	for _, text := range []string{"", "{", `{"schema":"other"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
