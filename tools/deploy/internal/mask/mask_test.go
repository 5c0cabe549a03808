package mask

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func masker(t *testing.T, secrets ...string) *Masker {
	t.Helper()
	m, err := New(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNothingSecretIsShown(t *testing.T) {
	m := masker(t, "hunter2hunter2", "pin")
	shown := fmt.Sprint(m.Object(map[string]any{
		"kind": "ConfigMap",
		"data": map[string]any{
			"whole":                  "hunter2hunter2",
			"inside":                 "postgres://app:hunter2hunter2@db/orders",
			"short":                  "pin",
			"application.properties": "db.user=app\ndb.password=swordfish\napi_key: swordfish2\n",
			"STRIPE_KEY":             "sk_live_swordfish",
		},
		"spec": map[string]any{
			"env":           []any{map[string]any{"name": "DB_PASSWORD", "value": "swordfish"}, map[string]any{"name": "LEVEL", "value": "debug"}},
			"encoded":       base64.StdEncoding.EncodeToString([]byte("hunter2hunter2")),
			"adminPassword": "swordfish",
		},
	}))
	for _, secret := range []string{"hunter2", "swordfish", "short:pin", base64.StdEncoding.EncodeToString([]byte("hunter2hunter2"))} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown: %s", secret, shown)
		}
	}
	for _, plain := range []string{"db.user=app", "debug", "LEVEL", "postgres://app:"} {
		if !strings.Contains(shown, plain) {
			t.Errorf("%q is hidden: %s", plain, shown)
		}
	}
}

func TestWhatOnlyPointsAtASecretIsShown(t *testing.T) {
	m := masker(t)
	o := map[string]any{"kind": "Pod", "spec": map[string]any{
		"topologyKey": "zone", "secretName": "orders-db", "tolerations": []any{map[string]any{"key": "dedicated"}},
		"env":                          []any{map[string]any{"name": "X", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "orders-db", "key": "url"}}}},
		"automountServiceAccountToken": false, "image": "registry/token:1",
	}}
	if got, want := fmt.Sprint(m.Object(o)), fmt.Sprint(o); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSecretsOfSecrets(t *testing.T) {
	m := masker(t)
	secret := func(v string) map[string]any {
		return map[string]any{"kind": "Secret", "data": map[string]any{"a": v, "b": "c2FtZQ=="}}
	}
	one, two := fmt.Sprint(m.Object(secret("b25l"))), fmt.Sprint(m.Object(secret("dHdv")))
	if one == two || strings.Contains(one, "b25l") || strings.Contains(one, "c2FtZQ==") {
		t.Errorf("%s and %s", one, two)
	}
	if again := fmt.Sprint(m.Object(secret("b25l"))); again != one {
		t.Error("equal values look different")
	}
	if other := fmt.Sprint(masker(t).Object(secret("b25l"))); other == one {
		t.Error("the fingerprint of another run is the same")
	}
}

func TestErrorTextsOfTheServer(t *testing.T) {
	m := masker(t)
	m.LearnObject(map[string]any{"kind": "Secret", "data": map[string]any{"a": base64.StdEncoding.EncodeToString([]byte("swordfish"))}, "stringData": map[string]any{"b": "hunter2"}})
	got := m.Text(`Invalid value: "swordfish": must be hunter2 or c3dvcmRmaXNo`)
	for _, secret := range []string{"swordfish", "hunter2", "c3dvcmRmaXNo"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is shown: %s", secret, got)
		}
	}
}

func TestAssignments(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"image.tag=1.2,replicas=3":          "image.tag=1.2,replicas=3",
		"secretName=db":                     "secretName=db",
		"image.tag=1.2,db.password=hunter2": "image.tag=[MASKED],db.password=[MASKED]",
		`tokens={a=b,hunter2},note=x\,y`:    "tokens=[MASKED],note=[MASKED]",
		"db.password=a=b,,c":                "db.password=[MASKED]",
		"auth[0].password=hunter2,auth[0].user=u": "auth[0].password=[MASKED],auth[0].user=[MASKED]",
	} {
		if got := Assignments(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
