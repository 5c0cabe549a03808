package helmrelease

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// recordType is the type of the Secrets that Helm keeps revisions in.
const recordType = "helm.sh/release.v1"

// maxRecord bounds what a record may unpack to. A Secret holds 1 MiB, which is
// the packed size.
const maxRecord = 64 << 20

// recordName returns the name of the Secret of a revision.
func recordName(release string, revision int) string {
	return fmt.Sprintf("sh.helm.release.v1.%s.v%d", release, revision)
}

// fields are the parts of a record that history shows; its chart, manifest and
// values, which make it large, are not read.
type fields struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Info    *struct {
		Status       release.Status  `json:"status"`
		Description  string          `json:"description"`
		LastDeployed json.RawMessage `json:"last_deployed"`
	} `json:"info"`
	Chart struct {
		Metadata struct {
			Name        string            `json:"name"`
			Version     string            `json:"version"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"chart"`
}

// decode reads the record of a Secret. One that holds something else than its
// labels say is not ours to work with.
func decode(s *corev1.Secret) (*release.Release, error) {
	raw, err := unpack(s)
	if err != nil {
		return nil, err
	}
	var rel release.Release
	if err := json.Unmarshal(raw, &rel); err != nil {
		return nil, err
	}
	if rel.Info == nil {
		return nil, errors.New("it has no state")
	}
	return &rel, matches(s, rel.Name, rel.Version)
}

// unpack returns the JSON of a record: base64 of gzip, as Helm's driver writes.
func unpack(s *corev1.Secret) ([]byte, error) {
	if s.Type != recordType {
		return nil, fmt.Errorf("the Secret is of type %q, which no version of Helm writes", s.Type)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(s.Data["release"])))
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, errors.New("it is empty")
	}
	if !bytes.HasPrefix(raw, []byte{0x1f, 0x8b, 0x08}) {
		return raw, nil
	}
	gz, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if raw, err = io.ReadAll(io.LimitReader(gz, maxRecord+1)); err != nil {
		return nil, err
	}
	if len(raw) > maxRecord {
		return nil, fmt.Errorf("it unpacks to more than %d MiB", maxRecord>>20)
	}
	return raw, nil
}

func matches(s *corev1.Secret, name string, version int) error {
	if s.Labels["name"] != name || s.Labels["version"] != strconv.Itoa(version) || s.Name != recordName(name, version) {
		return fmt.Errorf("it is of revision %d of release %q", version, name)
	}
	return nil
}

// broken makes the error of a record that cannot be read.
func broken(namespace, secret, name string, revision int, err error) error {
	return tool.Hint(fmt.Errorf("reading the record of revision %d of release %q: %w", revision, name, err),
		fmt.Sprintf("its Secret was damaged or is not Helm's: restore it from a backup, or take it out of the history (no object is touched): kubectl -n %s delete secret %s", namespace, secret))
}

// ended returns a record with another state and description. All else stays as
// it was written, also what only another version of Helm knows.
func ended(raw []byte, status release.Status, why string) ([]byte, error) {
	var rel, info map[string]json.RawMessage
	if err := json.Unmarshal(raw, &rel); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(rel["info"], &info); err != nil {
		return nil, err
	}
	for key, value := range map[string]string{"status": string(status), "description": why} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		info[key] = text
	}
	var err error
	if rel["info"], err = json.Marshal(info); err != nil {
		return nil, err
	}
	return json.Marshal(rel)
}

// rewritten returns a record as it is to be, with what another version of Helm
// wrote into it and ours does not know.
func rewritten(was *corev1.Secret, rel *release.Release) ([]byte, error) {
	raw, err := unpack(was)
	if err != nil {
		return nil, err
	}
	out, err := keysOf(rel)
	if err != nil {
		return nil, err
	}
	known, err := keysOf(everyField)
	if err != nil {
		return nil, err
	}
	old := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &old); err != nil {
		return nil, err
	}
	for key, value := range old {
		if _, ours := known[key]; !ours {
			out[key] = value
		}
	}
	if raw, err = json.Marshal(out); err != nil {
		return nil, err
	}
	return pack(raw)
}

func keysOf(v any) (map[string]json.RawMessage, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	return out, json.Unmarshal(raw, &out)
}

// everyField is a record whose JSON has all the keys that we know.
var everyField = release.Release{Name: "a", Info: &release.Info{}, Chart: &chart.Chart{}, Config: map[string]any{"a": 1}, Manifest: "a",
	Hooks: []*release.Hook{{}}, Version: 1, Namespace: "a", Labels: map[string]string{"a": "a"}}

func encode(rel *release.Release) ([]byte, error) {
	raw, err := json.Marshal(rel)
	if err != nil {
		return nil, err
	}
	return pack(raw)
}

// pack makes the record of a Secret.
func pack(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression) // as Helm does: a record has a limit
	if err != nil {
		return nil, err
	}
	if _, err := gz.Write(raw); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(out.Bytes())), nil
}
