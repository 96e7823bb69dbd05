package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// sbomName is the file name of the bill of materials.
const sbomName = "rcpt-milter.spdx.json"

// spdxDocument is a bill of materials (SPDX 2.3, clauses 6, 7 and 11). It has the fields that SPDX
// requires, and those that scanners for vulnerabilities read.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicence   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string          `json:"SPDXID"`
	Name      string          `json:"name"`
	Version   string          `json:"versionInfo"`
	Location  string          `json:"downloadLocation"`
	Analyzed  bool            `json:"filesAnalyzed"`
	Concluded string          `json:"licenseConcluded"`
	Declared  string          `json:"licenseDeclared"`
	Copyright string          `json:"copyrightText"`
	Refs      []spdxReference `json:"externalRefs,omitempty"`
}

// spdxReference names a package by its package URL.
type spdxReference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// noAssertion is what SPDX writes for a fact that the document does not state.
const noAssertion = "NOASSERTION"

// sbom returns the bill of materials: the program, the Go standard library and the linked modules.
func (b *builder) sbom(ctx context.Context) ([]byte, error) {
	modules, err := b.modules(ctx)
	if err != nil {
		return nil, err
	}
	library, err := b.standardLibrary(ctx)
	if err != nil {
		return nil, err
	}
	modules = append([]module{library}, modules...)
	const document, program = "SPDXRef-DOCUMENT", "SPDXRef-rcpt-milter"
	bill := spdxDocument{
		Version: "SPDX-2.3", DataLicence: "CC0-1.0", ID: document, Name: "rcpt-milter-" + b.version,
		Creation: spdxCreation{Created: b.time.Format(time.RFC3339),
			Creators: []string{"Tool: rcpt-milter/deploy/deb"}},
		Packages: []spdxPackage{{ID: program, Name: "rcpt-milter", Version: b.version, Location: noAssertion,
			Concluded: licenceID, Declared: licenceID, Copyright: noAssertion}},
		Relationships: []spdxRelationship{{document, "DESCRIBES", program}},
	}
	names := sha256.New()
	for _, m := range modules {
		part, err := m.spdx()
		if err != nil {
			return nil, err
		}
		bill.Packages = append(bill.Packages, part)
		bill.Relationships = append(bill.Relationships, spdxRelationship{program, "STATIC_LINK", part.ID})
		fmt.Fprintln(names, m.Path, m.Version)
	}
	bill.Namespace = fmt.Sprintf("https://rcpt-milter.example/spdx/%s/%x", b.version, names.Sum(nil)[:8])
	text, err := json.MarshalIndent(bill, "", "  ")
	return append(text, '\n'), err
}

// spdx describes a module.
func (m module) spdx() (spdxPackage, error) {
	text, err := m.licence()
	if err != nil {
		return spdxPackage{}, err
	}
	version := m.Version
	locator := fmt.Sprintf("pkg:golang/%s@%s", m.Path, strings.ReplaceAll(version, "+", "%2B"))
	if m.Path == "std" {
		version = strings.TrimPrefix(version, "go")
		locator = "pkg:golang/stdlib@" + version
	}
	id := identify(text)
	return spdxPackage{ID: "SPDXRef-" + regexp.MustCompile(`[^A-Za-z0-9.-]`).ReplaceAllString(m.Path, "-"),
		Name: m.Path, Version: version, Location: noAssertion, Concluded: id, Declared: id, Copyright: noAssertion,
		Refs: []spdxReference{{"PACKAGE-MANAGER", "purl", locator}}}, nil
}

// licencePhrases are sentences by which a licence is known, the more specific one first.
var licencePhrases = []struct{ id, phrase string }{
	{"Apache-2.0", "apache license version 2.0, january 2004"},
	{"MPL-2.0", "mozilla public license version 2.0"},
	{"MPL-2.0", "mozilla public license, version 2.0"},
	{"BSD-3-Clause", "neither the name of"},
	{"BSD-3-Clause", "names of its contributors may be used to endorse"},
	{"BSD-2-Clause", "redistribution and use in source and binary forms"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"Unlicense", "this is free and unencumbered software released into the public domain"},
}

// identify returns the SPDX expression of a licence text, or noAssertion if it knows none of it.
// A text with several licences gives all of them.
func identify(text string) string {
	words := strings.Join(strings.Fields(strings.ToLower(text)), " ")
	var found []string
	for _, l := range licencePhrases {
		base, _, _ := strings.Cut(l.id, "-")
		already := strings.Contains(strings.Join(found, " "), base)
		if !already && strings.Contains(words, l.phrase) {
			found = append(found, l.id)
		}
	}
	if len(found) == 0 {
		return noAssertion
	}
	return strings.Join(found, " AND ")
}
