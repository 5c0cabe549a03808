package box

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
	"gitlab.com/slipway/slipway/sandbox/internal/debian"
	"gitlab.com/slipway/slipway/sandbox/internal/image"
)

// This file is how everything in the build cache is made. It is part of every
// key: whoever changes a recipe here gets what the new one makes.

// from are the files and folders that an item is made of, with its recipe.
func (b *Box) from(paths ...string) []string {
	return append(paths, b.packageFile("box", "recipes.go"))
}

// packageFile is the path of a source file of one of the sandbox's packages.
func (b *Box) packageFile(name, file string) string {
	return filepath.Join(b.Root, "sandbox", "internal", name, file)
}

func (b *Box) goItem(p goProgram) buildcache.Item {
	dir := b.buildDir(p.name)
	from := b.from(dir)
	if p.image != nil {
		from = append(from, b.packageFile("image", "image.go"))
	}
	return buildcache.Item{
		Name: p.name, Cold: p.cold, From: from,
		// The lists of programs are in files that change for other reasons.
		Tools: func(ctx context.Context) ([]string, error) {
			config, err := json.Marshal(p.image)
			if err != nil {
				return nil, err
			}
			tools, err := goTools(dir)(ctx)
			return append(tools, p.pkg, string(config)), err
		},
		Build: func(ctx context.Context, s buildcache.Site) error {
			if err := b.goBuild(ctx, s, dir, p.name, p.pkg); err != nil {
				return err
			}
			if p.extra != nil {
				if err := p.extra(ctx, dir, s.Out); err != nil {
					return err
				}
			}
			if p.image != nil {
				return packed(p.name, *p.image, s.Out)
			}
			return nil
		},
	}
}

// packed packs a built program as an image.
func packed(name string, config v1.Config, out string) error {
	img, err := image.Pack([]image.File{
		{From: filepath.Join(out, name), To: name, Mode: 0o755},
		{To: "tmp", Mode: 0o1777},
	}, config)
	if err != nil {
		return err
	}
	return image.Save(filepath.Join(out, "image"), img)
}

// goTools are the versions of what builds a module's program.
func goTools(dir string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		version, err := output(ctx, dir, "go", "env", "GOVERSION")
		return []string{version, runtime.GOOS + "/" + runtime.GOARCH}, err
	}
}

// goBuild builds a static program of the given name from a module's folder. It
// is what go.sum says, or nothing.
func (b *Box) goBuild(ctx context.Context, s buildcache.Site, dir, name, pkg string) error {
	return b.tool(ctx, s, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(s.Out, name), pkg)
}

// kwokStages writes the stages that kwok plays into one file: nodes that are
// ready at once and stay so, pods that run at once, volumes that are bound.
func kwokStages(ctx context.Context, module, out string) error {
	src, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	if err != nil {
		return err
	}
	stages := filepath.Join(src, "kustomize", "stage")
	if err := join(filepath.Join(out, "stages.yaml"),
		filepath.Join(stages, "node", "fast", "node-*.yaml"), filepath.Join(stages, "node", "heartbeat", "node-*.yaml"),
		filepath.Join(stages, "pod", "fast", "pod-*.yaml"), filepath.Join(stages, "volume", "fast", "p*.yaml")); err != nil {
		return err
	}
	return join(filepath.Join(out, "storage-class.yaml"), filepath.Join(stages, "volume", "fast", "storage-class.yaml"))
}

// veleroCRDs writes Velero's resource definitions into one file.
func veleroCRDs(ctx context.Context, module, out string) error {
	src, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/vmware-tanzu/velero")
	if err != nil {
		return err
	}
	crd := filepath.Join(src, "config", "crd")
	return join(filepath.Join(out, "crds.yaml"), filepath.Join(crd, "v1", "bases", "*.yaml"), filepath.Join(crd, "v2alpha1", "bases", "*.yaml"))
}

// join writes the files that the patterns name as documents of one YAML file.
func join(path string, patterns ...string) error {
	var all bytes.Buffer
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("reading %q: no such file in the module", pattern)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, "---\n%s\n", strings.TrimPrefix(strings.TrimSpace(string(raw)), "---"))
		}
	}
	return os.WriteFile(path, all.Bytes(), 0o644)
}

// debianNames are the images that are made of Debian packages, which are
// there where there are real nodes.
func debianNames() []string { return []string{"postgres", "rabbitmq"} }

func (b *Box) debianImages() []buildcache.Item {
	var items []buildcache.Item
	for _, name := range debianNames() {
		dir := b.buildDir(name)
		items = append(items, buildcache.Item{
			Name: name, Cold: "3 min", From: b.from(dir, b.packageFile("debian", "debian.go"), b.packageFile("image", "image.go")),
			Tools: func(context.Context) ([]string, error) { return []string{runtime.GOARCH}, nil },
			Build: func(ctx context.Context, s buildcache.Site) error {
				return debian.Build(ctx, dir, s.Out, s.Log)
			},
		})
	}
	return items
}

const veleroImageName = "velero-node"

// veleroImage is what of Velero runs on real nodes: the node agent, and the
// helper by which a restored pod waits for its files. It is built after the
// program velero, which is in it.
func (b *Box) veleroImage() buildcache.Item {
	dir := b.buildDir("velero")
	return buildcache.Item{
		Name: veleroImageName, Cold: "10 s", From: b.from(dir, b.packageFile("image", "image.go")), Tools: goTools(dir),
		Build: func(ctx context.Context, s buildcache.Site) error {
			const name = "velero-restore-helper"
			helper := filepath.Join(s.Out, name)
			if err := b.goBuild(ctx, s, dir, name, "github.com/vmware-tanzu/velero/cmd/velero-restore-helper"); err != nil {
				return err
			}
			img, err := image.Pack([]image.File{
				{From: b.builtProgram("velero"), To: "velero", Mode: 0o755},
				{From: helper, To: name, Mode: 0o755},
				{To: "tmp", Mode: 0o1777},
			}, v1.Config{Entrypoint: []string{"/velero"}})
			if err != nil {
				return err
			}
			if err := image.Save(filepath.Join(s.Out, "image"), img); err != nil {
				return err
			}
			return os.Remove(helper)
		},
	}
}

// builtProgram is the path of a program while others are being built.
func (b *Box) builtProgram(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.program(name)
}

// motoItem is moto in a Python environment of its own.
func (b *Box) motoItem() buildcache.Item {
	requirements := filepath.Join(b.Root, "sandbox", "requirements.txt")
	return buildcache.Item{
		Name: "moto", Cold: "3 min", From: b.from(requirements),
		Tools: func(ctx context.Context) ([]string, error) {
			version, err := output(ctx, b.Root, "python3", "-c", "import sys, platform; print(sys.executable, sys.version_info[:3], platform.machine())")
			return []string{version}, err
		},
		Build: func(ctx context.Context, s buildcache.Site) error {
			if err := b.tool(ctx, s, s.Out, nil, "python3", "-m", "venv", s.Out); err != nil {
				return tool.Hint(err, "moto needs Python's venv module; on Debian or Ubuntu: apt-get install -y python3-venv")
			}
			python := filepath.Join(s.Out, "bin", "python3")
			if err := b.tool(ctx, s, s.Out, []string{"PIP_DISABLE_PIP_VERSION_CHECK=1"}, python, "-m", "pip", "install", "--no-input", "-r", requirements); err != nil {
				return err
			}
			return b.tool(ctx, s, s.Out, nil, python, "-c", "import moto.server")
		},
	}
}

// ciLocalItem is gitlab-ci-local, with a node of its own where the system's is too old.
func (b *Box) ciLocalItem() buildcache.Item {
	dir := b.buildDir("gitlab-ci-local")
	return buildcache.Item{
		Name: "gitlab-ci-local", Cold: "20 s", From: b.from(dir),
		Tools: func(ctx context.Context) ([]string, error) {
			node, err := ownNode(ctx)
			return []string{"own node " + strconv.FormatBool(node)}, err
		},
		Build: func(ctx context.Context, s buildcache.Site) error {
			for _, name := range []string{"package.json", "package-lock.json"} {
				raw, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(s.Out, name), raw, 0o644); err != nil {
					return err
				}
			}
			argv := []string{"npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"}
			node, err := ownNode(ctx)
			if err != nil {
				return err
			}
			if !node {
				argv = append(argv, "--omit=dev")
			} else if runtime.GOARCH != "amd64" {
				return tool.Hint(fmt.Errorf("node on PATH is older than %d", oldestNode), "install Node "+strconv.Itoa(oldestNode)+" or newer")
			}
			if err := b.tool(ctx, s, s.Out, nil, argv...); err != nil {
				return err
			}
			command, err := ciLocalCommand(s.Out)
			if err != nil {
				return err
			}
			return b.tool(ctx, s, s.Out, nil, append(command, "--version")...)
		},
	}
}
