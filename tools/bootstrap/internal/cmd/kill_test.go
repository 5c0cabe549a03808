package cmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/cmd"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway-bootstrap": func() {
		os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, "test", cmd.Program()))
	}})
}

const managementAccount = "911111111111"

// killable is an empty organisation behind proxies, for one trial.
type killable struct {
	dir, moto string
	log       *faultproxy.Log
	env       []string
	ends      []func()
	// made is what a run that was left alone has made: it is the same for
	// each trial, and more is a duplicate.
	made *map[string]int
}

func newKillable(ctx context.Context, dir, moto string, made *map[string]int) (k *killable, err error) {
	k = &killable{moto: moto, log: &faultproxy.Log{}, made: made}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if k.dir, err = os.MkdirTemp(dir, "trial-"); err != nil {
		return k, err
	}
	if err = k.request(ctx, http.MethodPost, "reset", nil); err != nil {
		return k, err
	}
	cfg, err := administrator(ctx, moto, managementAccount)
	if err != nil {
		return k, err
	}
	admin, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return k, err
	}
	gitlab, end, err := startGitLab(filepath.Join(k.dir, "gitlab"))
	if err != nil {
		return k, err
	}
	k.ends = append(k.ends, end)
	var addresses []string
	for _, c := range []faultproxy.Config{{Part: faultproxy.AWS(), Upstream: moto, Log: k.log}, {Part: faultproxy.GitLab(), Upstream: gitlab, Log: k.log}} {
		p, err := faultproxy.Start(c)
		if err != nil {
			return k, err
		}
		k.ends = append(k.ends, p.Close)
		addresses = append(addresses, p.URL)
	}
	texts, err := files(managementAccount)
	if err != nil {
		return k, err
	}
	for name, text := range texts {
		path := filepath.Join(k.dir, "landscape", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return k, err
		}
	}
	k.env = append(os.Environ(), "GITLAB_CI=", "CI_JOB_TOKEN=", "AWS_ENDPOINT_URL="+addresses[0], "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID="+admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+admin.SecretAccessKey,
		"CI_SERVER_URL=https://gitlab.example.com", "SLIPWAY_GITLAB_ENDPOINT="+addresses[1], "SLIPWAY_GITLAB_TOKEN="+gitlabToken,
		"SLIPWAY_BOOTSTRAP_REPORT_DIR="+filepath.Join(k.dir, "report"), "SLIPWAY_BOOTSTRAP_DIR="+filepath.Join(k.dir, "landscape"))
	return k, nil
}

func (k *killable) close() {
	for i := len(k.ends) - 1; i >= 0; i-- {
		k.ends[i]()
	}
	_ = os.RemoveAll(k.dir)
}

// request calls moto's own API.
func (k *killable) request(ctx context.Context, method, what string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, k.moto+"/moto-api/"+what, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of moto: %s", what, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// kinds are moto's names of what must not be there twice. Of the rest it keeps
// replaced instances as well.
func kinds() map[string][]string {
	return map[string][]string{"cloudtrail": {"Trail"}, "iam": {"OpenIDConnectProvider", "Role"}, "kms": {"Key"}, "s3": {"FakeBucket"},
		"organizations": {"FakeAccount", "FakeOrganization", "FakeOrganizationalUnit"}}
}

// count counts what stands in moto's accounts.
func (k *killable) count(ctx context.Context) (map[string]int, error) {
	var data map[string]map[string][]json.RawMessage
	if err := k.request(ctx, http.MethodGet, "data.json", &data); err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for service, names := range kinds() {
		for _, name := range names {
			if counts[name] = len(data[service][name]); counts[name] == 0 {
				return nil, fmt.Errorf("moto shows no %s %s", service, name)
			}
		}
	}
	return counts, nil
}

func (k *killable) command(args ...string) *exec.Cmd {
	cmd := exec.Command("slipway-bootstrap", args...)
	cmd.Dir, cmd.Env = k.dir, k.env
	return cmd
}

// check: the run went through, one more changes nothing and makes no mutating
// call, and nothing is there twice.
func (k *killable) check(ctx context.Context, next faultproxy.Run) error {
	if next.Code != 0 {
		return fmt.Errorf("the next run exited with %d", next.Code)
	}
	k.log.Reset()
	cmd := k.command("apply")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nothing to change: 0 created, 0 updated") {
		return fmt.Errorf("one more run: %w\n%s", err, out)
	}
	if calls := k.log.Mutating(); len(calls) > 0 {
		return fmt.Errorf("one more run made the mutating calls %v", calls)
	}
	counts, err := k.count(ctx)
	if err != nil {
		return err
	}
	if *k.made == nil {
		*k.made = counts
	}
	if !maps.Equal(counts, *k.made) {
		return fmt.Errorf("there is %v, and a run that was left alone made %v", counts, *k.made)
	}
	return nil
}

// TestKillSchedule kills apply before and after each of its mutating calls: the
// next run completes what is missing, makes nothing twice, and the third finds
// nothing to change.
func TestKillSchedule(t *testing.T) {
	motos := []string{mototest.Start(t), mototest.Start(t)}
	dir := t.TempDir()
	var made map[string]int // written by the run that is left alone, before there are trials
	r, err := faultproxy.Schedule{Workers: len(motos), Sample: faultproxy.Sample(8), Seed: 1, Progress: t.Logf,
		World: func(ctx context.Context, worker int) (*faultproxy.World, error) {
			k, err := newKillable(ctx, dir, motos[worker], &made)
			if err != nil {
				return nil, err
			}
			return &faultproxy.World{Log: k.log, Command: func() *exec.Cmd { return k.command("apply") }, Check: k.check, Close: k.close}, nil
		}}.Run(t.Context())
	faultproxy.Report(t, "killed", r, err)
}
