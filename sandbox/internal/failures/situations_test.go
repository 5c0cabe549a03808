package failures

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// situations are all that is recorded.
func situations() []situation {
	var all []situation
	for _, list := range [][]situation{imageSituations(), crashSituations(), saidSituations(), startSituations(), probeSituations(),
		jobSituations(), refusalSituations(), placeSituations(), volumeSituations(), controllerSituations()} {
		all = append(all, list...)
	}
	return all
}

func imageSituations() []situation {
	pull := func(name string, ref func(*stage) string, l label) situation {
		return situation{name: name, shows: pulling, label: l, make: func(s *stage) { s.deployment("orders", pulls(ref(s))) }}
	}
	repository := func(s *stage) string { r, _, _ := strings.Cut(s.image, "@"); return r }
	answered := func(name, repository string) func(*stage) string {
		return func(s *stage) string { return s.registry + "/" + repository + "/" + name + ":1" }
	}
	return []situation{
		pull("image-tag-missing", func(s *stage) string { return repository(s) + ":v1.4.3" }, fails(rollout.ClassImage, "app", "failing:v1.4.3", "does not exist")),
		pull("image-digest-missing", func(s *stage) string { return repository(s) + "@sha256:" + strings.Repeat("0", 64) }, fails(rollout.ClassImage, "app", "does not exist")),
		pull("image-unauthorised", answered("orders", "401"), fails(rollout.ClassImage, "app", "401/orders:1", "may not be pulled")),
		pull("image-forbidden", answered("orders", "403"), fails(rollout.ClassImage, "app", "403/orders:1", "may not be pulled")),
		pull("image-rate-limited", answered("orders", "429"), fails(rollout.ClassImage, "app", "429/orders:1")),
		pull("image-registry-broken", answered("orders", "500"), fails(rollout.ClassImage, "app", "500/orders:1")),
		pull("image-registry-away", func(*stage) string { return "127.0.0.1:1/orders:1" }, fails(rollout.ClassImage, "app", "connection refused")),
		pull("image-registry-unknown", func(*stage) string { return "registry.invalid/orders:1" }, fails(rollout.ClassImage, "app", "registry.invalid")), // the rest is the words of the machine's resolver
		pull("image-platform", func(s *stage) string { return pushFor(s.T, s.Namespace+"-s390x", "s390x") }, fails(rollout.ClassImage, "app", "platform")),
		{name: "image-bad-name", shows: is("InvalidImageName", 0), label: fails(rollout.ClassImage, "app", `"Orders//app:1"`, "not valid"), make: func(s *stage) { s.deployment("orders", pulls("Orders//app:1")) }},
		{name: "image-never-pull", shows: is("ErrImageNeverPull", 0), label: fails(rollout.ClassImage, "app", "may not be pulled"), make: func(s *stage) {
			s.deployment("orders", pulls(repository(s)+":absent"), func(p *corev1.PodSpec) { p.Containers[0].ImagePullPolicy = corev1.PullNever })
		}},
		{name: "image-of-init", shows: pulling, label: fails(rollout.ClassImage, "migrate", "does not exist"), make: func(s *stage) {
			s.deployment("orders", s.before("migrate", nil, "exit", "0"), func(p *corev1.PodSpec) { p.InitContainers[0].Image = repository(s) + ":absent" })
		}},
		{name: "image-of-sidecar", shows: pulling, label: fails(rollout.ClassImage, "proxy", "does not exist"), make: func(s *stage) {
			s.deployment("orders", s.beside("proxy", "serve", "200", "1h"), func(p *corev1.PodSpec) { p.Containers[1].Image = repository(s) + ":absent" })
		}},
		{name: "image-second-try", shows: pulling, label: healthy, heals: true, make: func(s *stage) {
			_, digest, _ := strings.Cut(pushFor(s.T, s.Namespace+"-flaky", runtimeArch), "@")
			s.deployment("orders", pulls(s.registry+"/flaky/orders@"+digest))
		}},
	}
}

func crashSituations() []situation {
	crash := func(name string, l label, edits ...edit) situation {
		return situation{name: name, shows: loops, label: l, make: func(s *stage) { s.deployment("orders", edits...) }}
	}
	memory := func(p *corev1.PodSpec) {
		p.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("48Mi")}
	}
	always := corev1.ContainerRestartPolicyAlways
	return []situation{
		crash("crash-exit-3", fails(rollout.ClassCrash, "app", "exit code 3"), args("exit", "3")),
		crash("crash-exit-0", fails(rollout.ClassCrash, "app", "exit code 0"), args("exit", "0")),
		crash("crash-memory", fails(rollout.ClassMemory, "app", "48Mi"), args("allocate"), memory),
		crash("crash-killed", fails(rollout.ClassCrash, "app", "exit code 137"), args("kill"), func(p *corev1.PodSpec) { p.ShareProcessNamespace = new(true) }),
		crash("crash-panic", fails(rollout.ClassCrash, "app", "exit code 2", "panic: reading the price list: unexpected end"), args("panic-with", "unexpected end")),
		crash("crash-nil", fails(rollout.ClassCrash, "app", "exit code 2", "invalid memory address or nil pointer dereference"), args("panic")),
		crash("crash-late", fails(rollout.ClassCrash, "app", "exit code 2", "gives up"), args("late", "2s")),
		{name: "crash-init", shows: loops, label: fails(rollout.ClassCrash, "migrate", "exit code 4"), make: func(s *stage) { s.deployment("orders", s.before("migrate", nil, "exit", "4")) }},
		{name: "crash-sidecar", shows: loops, label: fails(rollout.ClassCrash, "proxy", "exit code 5"), make: func(s *stage) { s.deployment("orders", s.beside("proxy", "exit", "5")) }},
		{name: "crash-native-sidecar", shows: loops, label: fails(rollout.ClassCrash, "mesh", "exit code 6"), make: func(s *stage) { s.deployment("orders", s.before("mesh", &always, "exit", "6")) }},
		{name: "crash-unreachable-database", shows: loops, label: fails(rollout.ClassCrash, "app", "connection refused", "127.0.0.1:5432"), make: func(s *stage) { s.deployment("orders", args("connect", "127.0.0.1:5432")) }},
		{name: "crash-unknown-host", shows: loops, label: fails(rollout.ClassCrash, "app", "no such host", "postgres"), make: func(s *stage) {
			s.deployment("orders", args("connect", "postgres."+s.Namespace+".svc.cluster.local.:5432"))
		}},
		{name: "restarts-once", shows: runs(1), label: healthy, heals: true, make: func(s *stage) { s.deployment("orders", args("once", "/data"), emptyDir(), answers(0)) }},
	}
}

// saidSituations are programs in other languages, by what they say when they end.
func saidSituations() []situation {
	say := func(name, code string, l label, lines ...string) situation {
		return situation{name: name, shows: loops, label: l, make: func(s *stage) { s.deployment("orders", args(append([]string{"say", code}, lines...)...)) }}
	}
	long := []string{"panic: runtime error: index out of range [3] with length 3", "", "goroutine 1 [running]:"}
	for i := range 30 {
		long = append(long, fmt.Sprintf("main.step%d(0x3, 0x3)", i), fmt.Sprintf("\t/src/main.go:%d +0x1d", 10+i))
	}
	return []situation{
		say("said-go-long", "2", fails(rollout.ClassCrash, "app", "index out of range [3] with length 3"), long...),
		say("said-python", "1", fails(rollout.ClassCrash, "app", "DATABASE_URL"), "INFO starting", "Traceback (most recent call last):", `  File "/app/main.py", line 12, in <module>`, "    main()", `  File "/usr/lib/python3.12/os.py", line 685, in __getitem__`, "    raise KeyError(key) from None", "KeyError: 'DATABASE_URL'"),
		say("said-java", "1", fails(rollout.ClassCrash, "app", "UnknownHostException", "postgres"), "Starting Orders", `Exception in thread "main" java.lang.IllegalStateException: cannot start the pool`, "\tat shop.Pool.start(Pool.java:31)", "\tat shop.Main.main(Main.java:9)", "Caused by: java.net.UnknownHostException: postgres", "\tat java.base/java.net.InetAddress.lookup(InetAddress.java:801)", "\t... 2 more"),
		say("said-node", "1", fails(rollout.ClassCrash, "app", "Cannot find module 'express'"), "node:internal/modules/cjs/loader:1143", "  throw err;", "  ^", "", "Error: Cannot find module 'express'", "Require stack:", "- /app/server.js", "    at Module._resolveFilename (node:internal/modules/cjs/loader:1140:15)", "    at Module._load (node:internal/modules/cjs/loader:981:27) {", "  code: 'MODULE_NOT_FOUND',", "  requireStack: [ '/app/server.js' ]", "}", "", "Node.js v18.17.0"),
		say("said-json", "1", fails(rollout.ClassCrash, "app", "schema version 12 is older than 14"), `{"level":"info","msg":"starting","version":"1.4.2"}`, `{"level":"fatal","msg":"migrating the database","error":"schema version 12 is older than 14"}`),
		say("said-rust", "101", fails(rollout.ClassCrash, "app", "called `Result::unwrap()` on an `Err` value"), "thread 'main' panicked at src/main.rs:4:37:", "called `Result::unwrap()` on an `Err` value: NotPresent", "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"),
		say("said-password", "1", fails(rollout.ClassCrash, "app", "password authentication failed"), "2026/01/01 00:00:00 opening the pool", `FATAL: password authentication failed for user "orders"`),
		say("said-nothing", "1", fails(rollout.ClassCrash, "app", "exit code 1")),
		{name: "said-missing-variable", shows: loops, label: fails(rollout.ClassCrash, "app", "DATABASE_URL is not set", "set DATABASE_URL"), make: func(s *stage) { s.deployment("orders", args("need", "DATABASE_URL")) }},
	}
}

func startSituations() []situation {
	start := func(name string, shows func(rollout.Evidence) bool, l label, e edit) situation {
		return situation{name: name, shows: shows, label: l, make: func(s *stage) { s.deployment("orders", e) }}
	}
	command := func(list ...string) edit { return func(p *corev1.PodSpec) { p.Containers[0].Command = list } }
	secret := func(optional bool) edit {
		return func(p *corev1.PodSpec) {
			p.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "orders-db"}, Key: "password", Optional: &optional}}}}
		}
	}
	unmade := is("CreateContainerConfigError", 0)
	return []situation{
		start("start-no-such-file", is("CrashLoopBackOff", 1), fails(rollout.ClassConfig, "app", "/app/orders", "no such file"), command("/app/orders")),
		start("start-permission", is("CrashLoopBackOff", 1), fails(rollout.ClassConfig, "app", "permission denied"), command("/notes")),
		start("start-workdir", is("CrashLoopBackOff", 1), fails(rollout.ClassConfig, "app", "not a directory"), func(p *corev1.PodSpec) { p.Containers[0].WorkingDir = "/failing/work" }),
		start("config-missing-secret", unmade, fails(rollout.ClassConfig, "app", `secret "orders-db" not found`), secret(false)),
		start("config-missing-config-map", unmade, fails(rollout.ClassConfig, "app", `configmap "orders" not found`), func(p *corev1.PodSpec) {
			p.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "orders"}}}}
		}),
		start("config-missing-key", unmade, fails(rollout.ClassConfig, "app", "url", "settings"), env),
		start("config-root", unmade, fails(rollout.ClassConfig, "app", "runAsNonRoot"), func(p *corev1.PodSpec) {
			p.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsNonRoot: new(true)}
		}),
		{name: "config-optional", shows: runs(0), label: healthy, heals: true, make: func(s *stage) { s.deployment("orders", secret(true), args("serve", "200", "4s"), answers(0)) }},
	}
}

// answers is a readiness probe of the program.
func answers(delay int32) edit {
	return func(p *corev1.PodSpec) { p.Containers[0].ReadinessProbe = probe(delay) }
}

func probeSituations() []situation {
	startup := func(failures int32) edit {
		return func(p *corev1.PodSpec) {
			p.Containers[0].StartupProbe = probe(0)
			p.Containers[0].StartupProbe.FailureThreshold = failures
		}
	}
	unhealthy := told("Unhealthy", "")
	return []situation{
		{name: "probe-never-ready", shows: told("Unhealthy", "503"), label: waits(rollout.ClassProbe, "app", "503"), make: func(s *stage) { s.deployment("orders", args("serve", "503", "0s"), answers(2)) }},
		{name: "probe-wrong-port", shows: unhealthy, label: waits(rollout.ClassProbe, "app", "connection refused"), make: func(s *stage) {
			s.deployment("orders", answers(1), func(p *corev1.PodSpec) { p.Containers[0].ReadinessProbe.HTTPGet.Port = intstr.FromInt32(9090) })
		}},
		{name: "probe-liveness", shows: loops, label: fails(rollout.ClassCrash, "app", "liveness probe failed", "500"), make: func(s *stage) {
			s.deployment("orders", args("serve", "500", "0s"), liveness)
		}},
		{name: "probe-startup-too-short", shows: loops, label: fails(rollout.ClassCrash, "app", "startup probe failed"), make: func(s *stage) { s.deployment("orders", args("serve", "200", "1h"), startup(3)) }},
		{name: "slow-start", shows: both(unhealthy, runs(0)), label: healthy, heals: true, make: func(s *stage) { s.deployment("orders", args("serve", "200", "8s"), answers(0)) }},
		{name: "slow-startup-probe", shows: both(unhealthy, runs(0)), label: healthy, heals: true, make: func(s *stage) { s.deployment("orders", args("serve", "200", "8s"), startup(60)) }},
	}
}
