package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// Parts of the sandbox, in no order: each names what it needs.
// withNodes adds the real nodes.
func Parts(withNodes bool) []Part {
	parts := []Part{}
	for _, c := range clusters() {
		parts = append(parts, clusterParts(c)...)
	}
	parts = append(parts, awsParts()...)
	parts = append(parts, storeParts()...)
	parts = append(parts, veleroParts(withNodes)...)
	if withNodes {
		parts = append(parts, nodeParts()...)
	}
	return append(parts, gitlabParts()...)
}

// Up brings the sandbox up, or makes a running one complete.
func Up(ctx context.Context, cfg Config) error {
	b, err := open(ctx, cfg, true)
	if err != nil {
		return err
	}
	defer b.lock.Unlock()
	start := time.Now()
	if err := errors.Join(os.MkdirAll(b.path("logs"), 0o700), os.MkdirAll(b.path("tmp"), 0o700)); err != nil {
		return fmt.Errorf("making the sandbox's folder: %w", err)
	}
	if err := b.checkTools(ctx); err != nil {
		return err
	}
	if err := b.beginBuilding(ctx); err != nil {
		return err
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	parts := Parts(b.Node)
	if err := b.forget(ctx, parts); err != nil {
		return err
	}
	if err := b.choosePorts(ctx, parts); err != nil {
		return err
	}
	release, err := b.chooseNetworks()
	if err != nil {
		return err
	}
	defer release()
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.run(ctx, parts); err != nil {
		return err
	}
	if err := b.describe(); err != nil {
		return err
	}
	if b.changed == 0 {
		b.say("the sandbox is up already; nothing was changed (%.1f s)", time.Since(start).Seconds())
	} else {
		b.say("the sandbox is up: %s (%.1f s)", b.Dir, time.Since(start).Seconds())
	}
	return nil
}

// forget stops what an earlier version of the sandbox ran and this one does
// not know. What an interrupted start has left of a known part is ended when
// that part is started.
func (b *Box) forget(ctx context.Context, parts []Part) error {
	for name := range b.journal.Parts() {
		if slices.ContainsFunc(parts, func(p Part) bool { return p.Name == name }) {
			continue
		}
		if err := b.clear(ctx, name); err != nil {
			return err
		}
		if err := b.journal.Stopped(name); err != nil {
			return err
		}
	}
	return nil
}

// prepare writes the files that the parts start with.
func (b *Box) prepare() error {
	if err := b.loadSecrets(); err != nil {
		return err
	}
	if err := b.linkPrograms(); err != nil {
		return err
	}
	for _, c := range clusters() {
		if err := b.prepareCluster(c); err != nil {
			return err
		}
	}
	return nil
}

func (b *Box) choosePorts(ctx context.Context, parts []Part) error {
	var names []string
	owner := map[string]string{}
	for _, p := range parts {
		for _, port := range p.Ports {
			names = append(names, port)
			owner[port] = p.Name
		}
	}
	ports, err := process.Ports(ctx, names, b.journal.Ports(), func(port string) bool {
		e, ok := b.journal.Entry(owner[port])
		return ok && e.Alive()
	}, b.lock.With)
	if err != nil {
		return err
	}
	b.ports = ports
	return b.journal.SetPorts(ports)
}

// Description is sandbox.json: where everything is, for tests and the demo.
type Description struct {
	AWS struct {
		Endpoint   string `json:"endpoint"`
		Region     string `json:"region"`
		Management string `json:"management"`
		AccessKey  string `json:"accessKey"`
		SecretKey  string `json:"secretKey"`
	} `json:"aws"`
	GitLab struct {
		URL      string `json:"url"`
		Endpoint string `json:"endpoint"`
		Token    string `json:"token"`
	} `json:"gitlab"`
	Registry struct {
		Address string `json:"address"`
	} `json:"registry"`
	S3 struct {
		Endpoint  string `json:"endpoint"`
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
		Bucket    string `json:"bucket"`
	} `json:"s3"`
	Clusters map[string]Cluster `json:"clusters"`
	// Images are references by digest of images that tests may run on a real
	// node; none where there are no nodes.
	Images map[string]string `json:"images,omitempty"`
	Bin    string            `json:"bin"`
	// Commands are command lines of parts that a test starts for itself.
	Commands struct {
		Moto          string `json:"moto"`
		GitLabCILocal string `json:"gitlabCILocal"`
		S3Gateway     string `json:"s3Gateway"`
	} `json:"commands"`
}

// Cluster is one cluster in the description.
type Cluster struct {
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
	CA         string `json:"ca"`
	Node       *Node  `json:"node,omitempty"`
}

// describe writes sandbox.json.
func (b *Box) describe() error {
	var d Description
	d.AWS.Endpoint, d.AWS.Region, d.AWS.Management = "http://"+b.addr("aws"), region, managementAccount
	d.AWS.AccessKey, d.AWS.SecretKey = b.secrets.AWSAccessKey, b.secrets.AWSSecretKey
	d.GitLab.URL, d.GitLab.Endpoint, d.GitLab.Token = gitlabURL, "http://"+b.addr("gitlab"), b.secrets.GitLabToken
	d.Registry.Address = b.addr("registry")
	d.S3.Endpoint, d.S3.AccessKey, d.S3.SecretKey, d.S3.Bucket = "http://"+b.addr("s3"), b.secrets.S3AccessKey, b.secrets.S3SecretKey, backupBucket
	d.Clusters = map[string]Cluster{}
	for _, c := range clusters() {
		d.Clusters[c] = Cluster{Kubeconfig: b.kubeconfigPath(c), Server: b.serverURL(c), CA: b.clusterPath(c, "pki", "ca.crt"), Node: b.describeNode(c)}
	}
	d.Bin, d.Images = b.path("bin"), b.images
	ciLocal, err := ciLocalCommand(b.programs["gitlab-ci-local"])
	if err != nil {
		return err
	}
	d.Commands.GitLabCILocal = strings.Join(ciLocal, " ")
	d.Commands.Moto = filepath.Join(b.programs["moto"], "bin", "python3") + " -m moto.server"
	d.Commands.S3Gateway = b.program("versitygw")
	return writeJSON(b.path("sandbox.json"), d)
}

// Build makes the heavy programs only.
func Build(ctx context.Context, cfg Config) error {
	b := &Box{Config: cfg}
	if err := b.checkTools(ctx); err != nil {
		return err
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	names := []string{}
	for name := range b.programs {
		names = append(names, name)
	}
	slices.Sort(names)
	b.say("built and cached: %s", strings.Join(names, ", "))
	return nil
}

// Down stops every process of the sandbox and removes its folder, and from
// the build cache what killed builds have left.
func Down(ctx context.Context, cfg Config) error {
	b, err := open(ctx, cfg, false)
	if err == nil && b == nil {
		b, err = openRemains(ctx, cfg)
	}
	if err != nil {
		return err
	}
	if b == nil {
		cfg.Say("no sandbox is at %s; nothing to stop", cfg.Dir)
		return sweepCache(cfg)
	}
	stopped, err := b.stopAll(ctx)
	if err == nil {
		err = b.removeNodes(ctx)
	}
	if err == nil {
		err = b.remove()
	}
	if err != nil {
		b.lock.Unlock()
		return err
	}
	b.say("the sandbox is down: %d processes stopped, %s removed", stopped, b.Dir)
	return sweepCache(cfg)
}

// openRemains makes the folder of a sandbox anew that somebody has removed
// under its processes, so that they can be stopped under its lock; nil where
// nothing of it is left.
func openRemains(ctx context.Context, cfg Config) (*Box, error) {
	b := &Box{Config: cfg}
	left, err := process.Members(b.Dir, "")
	if err != nil {
		return nil, err
	}
	if len(left) == 0 && !b.nodesLeft() {
		return nil, nil
	}
	return open(ctx, cfg, true)
}

func sweepCache(cfg Config) error {
	dir, err := buildcache.Dir(cfg.Env)
	if err != nil {
		return err
	}
	return (&buildcache.Cache{Dir: dir}).Sweep()
}

// stopAll ends what the journal names and what carries the sandbox's mark,
// until nothing is left: a process may start another one while it is asked
// to end.
func (b *Box) stopAll(ctx context.Context) (int, error) {
	stopped := 0
	// First the server that starts jobs, so that no new ones come.
	if e, ok := b.journal.Entry("gitlab"); ok && e.Alive() {
		if err := process.Stop(ctx, []process.ID{e.ID}, grace); err != nil {
			return 0, err
		}
		stopped++
	}
	for {
		left, err := process.Members(b.Dir, "")
		if err != nil {
			return stopped, err
		}
		for _, e := range b.journal.Parts() {
			if e.Alive() && !slices.Contains(left, e.ID) {
				left = append(left, e.ID)
			}
		}
		if len(left) == 0 {
			return stopped, nil
		}
		if err := process.Stop(ctx, left, shortGrace); err != nil {
			return stopped, err
		}
		stopped += len(left)
	}
}

// remove deletes the sandbox's folder, what says that it is one last.
func (b *Box) remove() error {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return fmt.Errorf("removing the sandbox's folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "journal.json" || e.Name() == "lock" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.Dir, e.Name())); err != nil {
			return fmt.Errorf("removing the sandbox's folder: %w", err)
		}
	}
	if err := os.RemoveAll(b.path("journal.json")); err != nil {
		return fmt.Errorf("removing the sandbox's folder: %w", err)
	}
	if err := b.lock.Remove(); err != nil {
		return fmt.Errorf("removing the sandbox's folder: %w", err)
	}
	// An `up` that has waited may have it by now.
	if err := os.Remove(b.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
