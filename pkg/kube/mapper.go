package kube

import (
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// sharedMapper is a mapper that many hold and Refresh replaces below them.
type sharedMapper struct {
	now atomic.Pointer[meta.RESTMapper]
}

var _ meta.RESTMapper = (*sharedMapper)(nil)

func (m *sharedMapper) get() meta.RESTMapper { return *m.now.Load() }

// KindFor is the mapper's own.
func (m *sharedMapper) KindFor(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return m.get().KindFor(r)
}

// KindsFor is the mapper's own.
func (m *sharedMapper) KindsFor(r schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return m.get().KindsFor(r)
}

// ResourceFor is the mapper's own.
func (m *sharedMapper) ResourceFor(r schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return m.get().ResourceFor(r)
}

// ResourcesFor is the mapper's own.
func (m *sharedMapper) ResourcesFor(r schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return m.get().ResourcesFor(r)
}

// RESTMapping is the mapper's own.
func (m *sharedMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return m.get().RESTMapping(gk, versions...)
}

// RESTMappings is the mapper's own.
func (m *sharedMapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return m.get().RESTMappings(gk, versions...)
}

// ResourceSingularizer is the mapper's own.
func (m *sharedMapper) ResourceSingularizer(resource string) (string, error) {
	return m.get().ResourceSingularizer(resource)
}
