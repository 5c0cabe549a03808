// Package debian makes images of Debian packages, for what has no Go program:
// databases, in the sandbox. An image's folder has an image.json, which is a
// Recipe, and in bin the programs that come to /usr/local/bin.
//
// The packages are installed by mmdebstrap into a folder, inside namespaces of
// their own: with its first process the kernel ends all of it and takes the
// mounts back, so that a build that is killed leaves nothing but the folder.
package debian

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gitlab.com/slipway/slipway/sandbox/internal/image"
)

// Recipe says what an image is made of.
type Recipe struct {
	Suite    string    `json:"suite"`
	Packages []string  `json:"packages"`
	User     string    `json:"user"`    // whom the image runs as: user and group UserID, home /data
	Exclude  []string  `json:"exclude"` // patterns of files that are not unpacked
	Remove   []string  `json:"remove"`  // what the packages' scripts made and each image makes for itself
	Config   v1.Config `json:"config"`  // entry point, environment, user
}

// UserID is the user and the group of every image's user.
const UserID = 999

// epoch is the time of every file that has been made while an image is made.
const epoch = "1735689600"

// excluded is in no image: nobody reads it there.
func excluded() []string {
	return []string{
		"/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/i18n/*",
		"/usr/share/lintian/*", "/usr/share/bash-completion/*", "/usr/lib/python3*/*/__pycache__/*", "/usr/lib/*/perl/*/CORE/*",
	}
}

// removed is the machine's on which the image is made, or differs each time.
func removed() []string {
	return []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/var/cache/ldconfig", "/var/cache/debconf", "/var/log"}
}

// Build makes the image of a folder and writes it as an OCI layout into the
// folder image of out, which image.Load reads. What the tools say goes to log.
func Build(ctx context.Context, folder, out string, log io.Writer) error {
	recipe, err := read(filepath.Join(folder, "image.json"))
	if err != nil {
		return err
	}
	files, err := programs(filepath.Join(folder, "bin"))
	if err != nil {
		return err
	}
	root := filepath.Join(out, "root.tar")
	if err := install(ctx, recipe, out, root, log); err != nil {
		return err
	}
	own, err := image.Pack(files, recipe.Config)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(root, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return fmt.Errorf("packing %q: %w", root, err)
	}
	whole, err := mutate.AppendLayers(own, layer)
	if err != nil {
		return fmt.Errorf("packing %q: %w", root, err)
	}
	if err := image.Save(filepath.Join(out, "image"), whole); err != nil {
		return err
	}
	return os.Remove(root)
}

func read(path string) (Recipe, error) {
	var r Recipe
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("reading an image's recipe: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("reading the recipe %q: %w", path, err)
	}
	if err := r.check(); err != nil {
		return r, fmt.Errorf("reading the recipe %q: %w", path, err)
	}
	return r, nil
}

// word is what may come between the words of a shell.
var word = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*$`)

// check names every problem of a recipe: its words end up in a shell's.
func (r Recipe) check() error {
	var problems []error
	for _, w := range slices.Concat([]string{r.Suite, r.User}, r.Packages) {
		if !word.MatchString(w) {
			problems = append(problems, fmt.Errorf("%q is no name of a suite, a user or a package", w))
		}
	}
	if len(r.Packages) == 0 {
		problems = append(problems, errors.New("it names no package"))
	}
	for _, p := range slices.Concat(r.Exclude, r.Remove) {
		if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, " '\"\\$`;\n") {
			problems = append(problems, fmt.Errorf("%q is no clean absolute path", p))
		}
	}
	if len(r.Config.Entrypoint) == 0 {
		problems = append(problems, errors.New("it has no entry point"))
	}
	return errors.Join(problems...)
}

// programs are the files of a folder, for /usr/local/bin.
func programs(dir string) ([]image.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading an image's programs: %w", err)
	}
	var files []image.File
	for _, e := range entries {
		files = append(files, image.File{From: filepath.Join(dir, e.Name()), To: "usr/local/bin/" + e.Name(), Mode: 0o755})
	}
	return files, nil
}

// install writes the root of a file system with the recipe's packages to tar.
func install(ctx context.Context, r Recipe, tmp, tar string, log io.Writer) error {
	argv := append([]string{
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
	}, arguments(r, tar)...)
	// The signal that ends the build with this program comes when the thread
	// ends that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = tmp, log, log
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "SOURCE_DATE_EPOCH="+epoch, "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("installing %s into an image with mmdebstrap: %w", strings.Join(r.Packages, ", "), err)
	}
	return nil
}

// arguments are mmdebstrap's. It adds the security updates of the suite by
// itself and checks every signature.
func arguments(r Recipe, tar string) []string {
	argv := []string{
		"mmdebstrap", "--mode=root", "--variant=essential", "--format=tar", "--skip=output/dev", "--include=" + strings.Join(r.Packages, ","),
		// The packages' own scripts keep a user that is there.
		fmt.Sprintf(`--essential-hook=echo '%[1]s:x:%[2]d:' >>"$1/etc/group" && echo '%[1]s:x:%[2]d:%[2]d::/data:/bin/sh' >>"$1/etc/passwd" && mkdir -m 0777 "$1/data"`, r.User, UserID),
	}
	for _, p := range slices.Concat(excluded(), r.Exclude) {
		argv = append(argv, "--dpkgopt=path-exclude="+p)
	}
	for _, p := range slices.Concat(removed(), r.Remove) {
		argv = append(argv, fmt.Sprintf(`--customize-hook=rm -rf "$1"%s`, p))
	}
	return append(argv, r.Suite, tar)
}
