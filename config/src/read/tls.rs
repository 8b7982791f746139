//! How may TLS be spoken, to clients and to endpoints?
//!
//! Never opens a key or a certificate: what is in them is looked at when the process starts.

use std::net::IpAddr;

use super::fields::{Fields, Item};
use crate::schema::tls::{
    CertificateFiles, ClientAuth, ClientAuthMode, ListenerTls, TlsVersion, UnknownName, UpstreamTls, Verify,
    handshakes_default, resumption_default,
};
use crate::value::{fingerprint, server_name};

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

pub(super) fn read_listener_tls(fields: &mut Fields<'_>) -> ListenerTls {
    fields.require("certificates", "[{ certificate = \"web.pem\", key = \"web.key\" }]");
    let certificates = fields.items_some("certificates");
    let resumption = fields.boolean("resumption", resumption_default());
    let client_auth = fields.table("client_auth", read_client_auth);
    if !resumption && client_auth.as_ref().is_some_and(|client_auth| client_auth.resumption) {
        let cause = "means nothing while the listener resumes no session (resumption)";
        fields.error_below(&["client_auth", "resumption"], cause, Some("leave it out".to_owned()));
    }
    let names = [("default", UnknownName::Default), ("refuse", UnknownName::Refuse)];
    ListenerTls {
        certificates: certificates.iter().filter_map(|item| item.table(read_certificate)).collect(),
        unknown_name: fields.word("unknown_name", &names),
        min_version: fields.word("min_version", &VERSIONS),
        resumption,
        handshakes: fields.integer("handshakes", 1..=u16::MAX, handshakes_default()),
        client_auth,
    }
}

fn read_certificate(fields: &mut Fields<'_>) -> CertificateFiles {
    fields.require("certificate", "\"web.pem\"");
    fields.require("key", "\"web.key\"");
    CertificateFiles {
        certificate: fields.path("certificate").unwrap_or_default(),
        key: fields.path("key").unwrap_or_default(),
    }
}

fn read_client_auth(fields: &mut Fields<'_>) -> ClientAuth {
    fields.require("ca", "\"clients.pem\"");
    let modes = [("require", ClientAuthMode::Require), ("request", ClientAuthMode::Request)];
    let fingerprints = fields.items_some("fingerprints");
    ClientAuth {
        mode: fields.word("mode", &modes),
        ca: fields.path("ca").unwrap_or_default(),
        crl: fields.one_or_many("crl").iter().filter_map(Item::path).collect(),
        fingerprints: fingerprints.iter().filter_map(|item| item.parsed(fingerprint::parse)).collect(),
        resumption: fields.boolean("resumption", false),
    }
}

pub(super) fn read_upstream_tls(fields: &mut Fields<'_>) -> UpstreamTls {
    let verify = fields.word("verify", &[("platform", Verify::Platform), ("none", Verify::None)]);
    let ca = fields.path("ca");
    if verify == Verify::None && ca.is_some() {
        let suggestion = Some("leave verify out to have the endpoints verified by it".to_owned());
        fields.error("ca", "means nothing with verify = \"none\"", suggestion);
    }
    let (certificate, key) = (fields.path("certificate"), fields.path("key"));
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if fields.has(one) && !fields.has(other) {
            fields.error(
                other,
                format!("is missing beside {one}"),
                Some(format!("for example {other} = \"gateway.pem\"")),
            );
        }
    }
    let server_name = fields.parsed("server_name", |text| {
        // An address is looked for in certificates, if not asked for.
        text.parse::<IpAddr>().map(|address| address.to_string()).or_else(|_| server_name::parse(text))
    });
    UpstreamTls {
        verify,
        ca,
        server_name,
        certificate,
        key,
        min_version: fields.word("min_version", &VERSIONS),
    }
}
