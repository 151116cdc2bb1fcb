package manifests

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const folder = "../../configs/kubernetes"

// kinds are what manifests may have; a field that their types do not have is an error.
var kinds = map[string]func() any{
	"apps/v1/Deployment":                 func() any { return &appsv1.Deployment{} },
	"apps/v1/StatefulSet":                func() any { return &appsv1.StatefulSet{} },
	"v1/Service":                         func() any { return &corev1.Service{} },
	"v1/Secret":                          func() any { return &corev1.Secret{} },
	"policy/v1/PodDisruptionBudget":      func() any { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
}

// kustomization is as much of that kind as is used; its module is too large for this.
type kustomization struct {
	APIVersion         string   `json:"apiVersion"`
	Kind               string   `json:"kind"`
	Namespace          string   `json:"namespace"`
	Resources          []string `json:"resources"`
	ConfigMapGenerator []struct {
		Name  string   `json:"name"`
		Files []string `json:"files"`
	} `json:"configMapGenerator"`
	GeneratorOptions struct {
		DisableNameSuffixHash bool `json:"disableNameSuffixHash"`
	} `json:"generatorOptions"`
	Images []struct{ Name, NewName, NewTag string } `json:"images"`
}

// workload is what runs pods.
type workload struct {
	name     string
	selector map[string]string
	template corev1.PodTemplateSpec
	volumes  []string // of claims
}

// cluster is all that the manifests make.
type cluster struct {
	workloads []workload
	services  map[string]corev1.Service
	configs   map[string][]string // keys of config maps
	secret    corev1.Secret       // the example
	selectors map[string]map[string]string
}

func load(t *testing.T) cluster {
	t.Helper()
	c := cluster{services: map[string]corev1.Service{}, configs: map[string][]string{}, selectors: map[string]map[string]string{}}
	var k kustomization
	strict(t, "kustomization.yaml", read(t, "kustomization.yaml"), &k)
	for _, g := range k.ConfigMapGenerator {
		c.configs[g.Name] = g.Files
		for _, f := range g.Files {
			read(t, f)
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		example := strings.HasSuffix(name, ".example.yaml")
		switch {
		case name == "kustomization.yaml" || name == "schema.yaml":
			continue
		case example == slices.Contains(k.Resources, name):
			t.Errorf("kustomization.yaml: %s has to be among the resources, unless it is an example", name)
		}
		for i, doc := range bytes.Split(read(t, name), []byte("\n---\n")) {
			c.add(t, fmt.Sprintf("%s, document %d", name, i+1), doc)
		}
	}
	return c
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func strict(t *testing.T, where string, doc []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(doc, into); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

func (c *cluster) add(t *testing.T, where string, doc []byte) {
	t.Helper()
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(doc, &head); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	kind := kinds[head.APIVersion+"/"+head.Kind]
	if kind == nil {
		t.Fatalf("%s: unknown kind %s of %s", where, head.Kind, head.APIVersion)
	}
	object := kind()
	strict(t, where, doc, object)
	switch o := object.(type) {
	case *appsv1.Deployment:
		c.workloads = append(c.workloads, workload{o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template, nil})
	case *appsv1.StatefulSet:
		w := workload{name: o.Name, selector: o.Spec.Selector.MatchLabels, template: o.Spec.Template}
		for _, v := range o.Spec.VolumeClaimTemplates {
			w.volumes = append(w.volumes, v.Name)
		}
		c.workloads = append(c.workloads, w)
		c.selectors["the service "+o.Spec.ServiceName] = o.Spec.Selector.MatchLabels
	case *corev1.Service:
		c.services[o.Name] = *o
		c.selectors["the service "+o.Name] = o.Spec.Selector
	case *policyv1.PodDisruptionBudget:
		c.selectors["the budget "+o.Name] = o.Spec.Selector.MatchLabels
	case *networkingv1.NetworkPolicy:
		c.selectors["the policy "+o.Name] = o.Spec.PodSelector.MatchLabels
	case *corev1.Secret:
		c.secret = *o
	}
}

func TestManifests(t *testing.T) {
	c := load(t)
	if len(c.workloads) < 4 || len(c.services) < 3 {
		t.Fatalf("found %d workloads and %d services only", len(c.workloads), len(c.services))
	}
	for what, selector := range c.selectors {
		if !slices.ContainsFunc(c.workloads, func(w workload) bool { return maps.Equal(selector, w.template.Labels) }) {
			t.Errorf("%s selects no pods: %v", what, selector)
		}
	}
	for _, w := range c.workloads {
		t.Run(w.name, func(t *testing.T) { c.check(t, w) })
	}
	for name, s := range c.services {
		for _, w := range c.workloads {
			for _, p := range s.Spec.Ports {
				if maps.Equal(s.Spec.Selector, w.template.Labels) && !hasPort(w.template.Spec, p.TargetPort) {
					t.Errorf("the service %s: %s has no port %s", name, w.name, p.TargetPort.String())
				}
			}
		}
	}
}

func hasPort(pod corev1.PodSpec, port intstr.IntOrString) bool {
	return slices.ContainsFunc(pod.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
}

// check holds pods to what docs/operations.md says of them, and finds names that lead nowhere.
func (c cluster) check(t *testing.T, w workload) {
	if !maps.Equal(w.selector, w.template.Labels) {
		t.Errorf("selects %v and has %v", w.selector, w.template.Labels)
	}
	pod, box := w.template.Spec, w.template.Spec.Containers[0]
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Error("may run as root, or without seccomp")
	}
	if s := box.SecurityContext; s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) != 1 {
		t.Error("may write to its image or gain privileges")
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("variables of services may look like settings")
	}
	if box.Resources.Requests.Cpu().IsZero() || box.Resources.Limits.Memory().IsZero() {
		t.Error("says nothing of resources")
	}
	known := slices.Clone(w.volumes)
	for _, v := range pod.Volumes {
		known = append(known, v.Name)
		switch {
		case v.ConfigMap != nil && c.configs[v.ConfigMap.Name] == nil:
			t.Errorf("there is no config map %s", v.ConfigMap.Name)
		case v.Secret != nil && v.Secret.SecretName != c.secret.Name:
			t.Errorf("there is no example of the secret %s", v.Secret.SecretName)
		}
	}
	for _, m := range box.VolumeMounts {
		if !slices.Contains(known, m.Name) {
			t.Errorf("there is no volume %s", m.Name)
		}
	}
	for _, p := range []*corev1.Probe{box.ReadinessProbe, box.LivenessProbe} {
		switch {
		case p == nil:
			t.Error("lacks a probe")
		case p.HTTPGet != nil && !hasPort(pod, p.HTTPGet.Port), p.TCPSocket != nil && !hasPort(pod, p.TCPSocket.Port):
			t.Error("a probe names a port that is not there")
		}
	}
	if box.Image == "meshctl" {
		c.meshctl(t, w)
	}
}

// meshctl checks what is special to meshctl's own containers.
func (c cluster) meshctl(t *testing.T, w workload) {
	pod, box := w.template.Spec, w.template.Spec.Containers[0]
	if box.ReadinessProbe.HTTPGet.Path != "/readyz" || box.LivenessProbe.HTTPGet.Path != "/healthz" {
		t.Error("has other probes than meshctl answers")
	}
	if grace := *pod.TerminationGracePeriodSeconds; grace < 30 {
		t.Errorf("is killed after %d s, which draining may take", grace)
	}
	for _, a := range box.Args {
		value, _ := strings.CutPrefix(a, "--master=")
		host, port, named := strings.Cut(value, ":")
		if value == a || !named {
			continue
		}
		if s, ok := c.services[host]; !ok || s.Spec.ClusterIP != corev1.ClusterIPNone || fmt.Sprint(s.Spec.Ports[0].Port) != port {
			t.Errorf("%s leads to no headless service with that port", a)
		}
	}
	for _, m := range box.VolumeMounts {
		if m.Name != "keys" && m.Name != "schema" {
			continue
		}
		files := append(c.configs["meshctl-schema"], slices.Collect(maps.Keys(c.secret.StringData))...)
		if !slices.ContainsFunc(files, func(f string) bool {
			return slices.Contains(box.Args, "--"+m.Name+"="+m.MountPath+"/"+f)
		}) {
			t.Errorf("--%s names no file of its volume", m.Name)
		}
	}
}
