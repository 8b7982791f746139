//! Do certificates, tickets and trust decide as they say? Whole handshakes in memory, in TLS 1.2 and 1.3.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore,
    ServerConfig, ServerConnection, SupportedCipherSuite, SupportedProtocolVersion,
};
use tls::certificate::fingerprint;
use tls::client::{ClientSettings, ServerTrust, Upstream};
use tls::client_auth::{ClientAuth, ClientMode, Demands};
use tls::identity::Identity;
use tls::names::{NameTable, ServerNames, UnknownName};
use tls::server::{ServerSettings, VersionMin, server_config};
use tls::tickets::{OPENS_FOR, SEALS_FOR, Scope, TicketKeys, Tickets};
use tls::trust::{Authorities, Revocations};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const NAME: &str = "a.example";

/// One who issues certificates and revokes them.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
struct Issued {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue_with(&self, name: &str, serial: u64, algorithm: &'static SignatureAlgorithm) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { chain, key: key.serialize_pem() }
    }

    fn issue(&self, name: &str, serial: u64) -> Issued {
        self.issue_with(name, serial, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A list that names `serials` and is good until `year`.
    fn revoke(&self, serials: &[u64], year: i32) -> Revocations {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list").pem().expect("PEM");
        Revocations::from_pem(list.as_bytes()).expect("a list")
    }

    fn authorities(&self) -> Authorities {
        Authorities::from_pem(self.pem.as_bytes()).expect("an authority")
    }

    /// What is demanded of clients that this authority issued certificates to.
    fn demands(&self, revocations: &Revocations, fingerprints: &[[u8; 32]]) -> Demands {
        Demands::new(&self.authorities(), revocations, fingerprints.into()).expect("demands")
    }

    /// A client, of rustls alone, that believes this authority.
    fn client(&self, version: &'static SupportedProtocolVersion, shows: Option<&Issued>) -> ClientConfig {
        self.client_with(default_provider(), version, shows)
    }

    fn client_with(
        &self,
        provider: CryptoProvider,
        version: &'static SupportedProtocolVersion,
        shows: Option<&Issued>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        match shows {
            Some(issued) => builder.with_client_auth_cert(issued.der(), issued.key_der()).expect("a pair"),
            None => builder.with_no_client_auth(),
        }
    }
}

impl Issued {
    fn identity(&self) -> Identity {
        Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes()).expect("an identity")
    }

    fn der(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("PEM")]
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }
}

fn names(identities: &[Identity]) -> Arc<ServerNames> {
    Arc::new(ServerNames::new(NameTable::new(identities, UnknownName::Refused)))
}

fn server(
    names: Arc<ServerNames>,
    tickets: Option<Tickets>,
    clients: Option<Arc<ClientAuth>>,
) -> Arc<ServerConfig> {
    let settings = ServerSettings {
        version_min: VersionMin::Tls12,
        alpn: &[b"http/1.1"],
        names,
        tickets: tickets.map(|tickets| Arc::new(tickets) as Arc<dyn ProducesTickets>),
        clients: clients.map(|clients| clients as _),
    };
    server_config(settings).expect("a server")
}

fn upstream(trust: ServerTrust, identity: Option<Identity>) -> Upstream {
    let settings = ClientSettings { trust, identity, version_min: VersionMin::Tls12, alpn: &[b"http/1.1"] };
    Upstream::new(settings).expect("authorities")
}

/// A server, of rustls alone, that asks nobody for a certificate.
fn plain_server(version: &'static SupportedProtocolVersion, issued: &Issued) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(issued.der(), issued.key_der())
        .expect("a pair");
    config.ticketer = aws_lc_rs::Ticketer::new().expect("tickets");
    Arc::new(config)
}

/// Both sides of a connection that was agreed on, over which a word went each way.
#[derive(Debug)]
struct Agreed {
    client: ClientConnection,
    server: ServerConnection,
}

impl Agreed {
    fn is_resumed(&self) -> bool {
        assert_eq!(self.client.handshake_kind(), self.server.handshake_kind());
        self.server.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn certificate(&self) -> &CertificateDer<'static> {
        &self.client.peer_certificates().expect("a server shows one")[0]
    }
}

/// What the server and the client made of a handshake that failed.
#[derive(Debug)]
struct Refused {
    server: Option<Error>,
    client: Option<Error>,
}

/// Agrees, or tells what the server and what the client made of it.
fn agree(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> Result<Agreed, Box<Refused>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let mut server = ServerConnection::new(server.clone()).expect("a server");
    client.writer().write_all(b"up").expect("room");
    server.writer().write_all(b"down").expect("room");
    let (mut server_error, mut client_error) = (None, None);
    loop {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut up).expect("a vector takes all");
        }
        while server.wants_write() {
            server.write_tls(&mut down).expect("a vector takes all");
        }
        if up.is_empty() && down.is_empty() {
            break;
        }
        let mut up = &up[..];
        while !up.is_empty() && server_error.is_none() {
            server.read_tls(&mut up).expect("room");
            server_error = server.process_new_packets().err();
        }
        let mut down = &down[..];
        while !down.is_empty() && client_error.is_none() {
            client.read_tls(&mut down).expect("room");
            client_error = client.process_new_packets().err();
        }
    }
    if server_error.is_some() || client_error.is_some() {
        return Err(Box::new(Refused { server: server_error, client: client_error }));
    }
    let (mut up, mut down) = ([0; 2], [0; 4]);
    server.reader().read_exact(&mut up).expect("what the client said");
    client.reader().read_exact(&mut down).expect("what the server said");
    assert_eq!((&up, &down), (b"up", b"down"));
    Ok(Agreed { client, server })
}

#[track_caller]
fn assert_refused(refused: Result<Agreed, Box<Refused>>, expected: &CertificateError) {
    let refused = refused.expect_err("a refusal");
    assert_eq!(refused.server, Some(Error::InvalidCertificate(expected.clone())));
}

fn scope(listener: &str) -> Scope {
    Scope::new(listener, None)
}

fn keys_since(begin: SystemTime) -> Arc<TicketKeys> {
    Arc::new(TicketKeys::new(begin).expect("random bytes"))
}

#[test]
fn a_session_of_one_server_is_resumed_by_any_with_the_same_keys() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let keys = keys_since(SystemTime::now());
    let servers =
        [(); 3].map(|()| server(names.clone(), Some(Tickets::new(keys.clone(), scope("web"))), None));
    for version in VERSIONS {
        let client = Arc::new(authority.client(version, None));
        let kinds: Vec<bool> = (servers.iter().chain(&servers))
            .map(|server| agree(&client, server, NAME).expect("agreed").is_resumed())
            .collect();
        assert_eq!(kinds, [false, true, true, true, true, true], "{version:?}");
    }
}

#[test]
fn a_session_of_another_process_is_resumed_with_its_keys() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let keys = keys_since(SystemTime::now());
    let imported = Arc::new(TicketKeys::import(&keys.export()).expect("keys"));
    let [first, second] =
        [keys, imported].map(|keys| server(names.clone(), Some(Tickets::new(keys, scope("web"))), None));
    for version in VERSIONS {
        let client = Arc::new(authority.client(version, None));
        assert!(!agree(&client, &first, NAME).expect("agreed").is_resumed());
        assert!(agree(&client, &second, NAME).expect("agreed").is_resumed());
    }
}

#[test]
fn no_session_is_resumed_where_something_else_is_demanded() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let keys = keys_since(SystemTime::now());
    let tickets = |scope| Some(Tickets::new(keys.clone(), scope));
    let web = server(names.clone(), tickets(scope("web")), None);
    let other = server(names.clone(), tickets(scope("other")), None);
    let none = server(names.clone(), None, None);
    let demands = authority.demands(&Revocations::default(), &[]);
    let strict = Scope::new("web", Some(demands.digest()));
    let auth = Arc::new(ClientAuth::new(ClientMode::Request, demands));
    let mutual = server(names, tickets(strict), Some(auth));
    for version in VERSIONS {
        for elsewhere in [&other, &none, &mutual] {
            let client = Arc::new(authority.client(version, None));
            assert!(!agree(&client, &web, NAME).expect("agreed").is_resumed());
            assert!(!agree(&client, elsewhere, NAME).expect("agreed").is_resumed(), "{version:?}");
        }
        // And none at all where there are no tickets.
        let client = Arc::new(authority.client(version, None));
        for _ in 0..2 {
            assert!(!agree(&client, &none, NAME).expect("agreed").is_resumed(), "{version:?}");
        }
    }
}

#[test]
fn an_old_session_is_resumed_until_its_key_is_over() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let now = SystemTime::now();
    for version in VERSIONS {
        let keys = keys_since(now - SEALS_FOR + Duration::from_secs(60));
        let server = server(names.clone(), Some(Tickets::new(keys.clone(), scope("web"))), None);
        let resumes = |client: &Arc<ClientConfig>| agree(client, &server, NAME).expect("agreed").is_resumed();
        let clients = [(); 2].map(|()| Arc::new(authority.client(version, None)));
        assert!(clients.iter().all(|client| !resumes(client)));
        let before = keys.export().len();
        keys.rotate(now + Duration::from_secs(61)).expect("random bytes");
        assert!(keys.export().len() > before, "a second key");
        assert!(resumes(&clients[0]), "the first is not over");
        keys.rotate(now + OPENS_FOR + Duration::from_secs(61)).expect("random bytes");
        assert!(!resumes(&clients[1]), "now it is");
    }
}

#[test]
fn under_mutual_tls_a_resumed_session_keeps_its_client_and_ends_with_new_demands() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let somebody = authority.issue("somebody", 2);
    let keys = keys_since(SystemTime::now());
    for version in VERSIONS {
        let auth =
            Arc::new(ClientAuth::new(ClientMode::Require, authority.demands(&Revocations::default(), &[])));
        let tickets = Arc::new(Tickets::new(keys.clone(), Scope::new("web", Some(&auth.digest()))));
        let settings = ServerSettings {
            version_min: VersionMin::Tls12,
            alpn: &[],
            names: names.clone(),
            tickets: Some(tickets.clone()),
            clients: Some(auth.clone()),
        };
        let server = server_config(settings).expect("a server");
        let client = Arc::new(authority.client(version, Some(&somebody)));
        for is_resumed in [false, true] {
            let agreed = agree(&client, &server, NAME).expect("agreed");
            assert_eq!(agreed.is_resumed(), is_resumed, "{version:?}");
            assert_eq!(agreed.server.peer_certificates(), Some(&somebody.der()[..]));
        }
        auth.replace(authority.demands(&authority.revoke(&[2], 2040), &[]));
        tickets.set_scope(Scope::new("web", Some(&auth.digest())));
        assert_refused(agree(&client, &server, NAME), &CertificateError::Revoked);
    }
}

#[test]
fn a_client_is_believed_as_long_as_its_certificate_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let (good, bad, stranger) =
        (authority.issue("good", 2), authority.issue("bad", 3), other.issue("good", 2));
    let auth =
        Arc::new(ClientAuth::new(ClientMode::Require, authority.demands(&authority.revoke(&[3], 2040), &[])));
    let server = server(names, None, Some(auth.clone()));
    for version in VERSIONS {
        let attempt = |shows| agree(&Arc::new(authority.client(version, shows)), &server, NAME);
        auth.replace(authority.demands(&authority.revoke(&[3], 2040), &[]));
        assert!(attempt(Some(&good)).is_ok());
        assert_refused(attempt(Some(&bad)), &CertificateError::Revoked);
        let error = attempt(None).expect_err("a certificate is required").server;
        assert_eq!(error, Some(Error::NoCertificatesPresented));
        let error = attempt(Some(&stranger)).expect_err("of an authority that is not believed").server;
        // What rustls makes of a signature that does not fit the issuer's name.
        assert!(matches!(error, Some(Error::InvalidCertificate(_))), "{error:?}");

        // A list that is out of date says nothing any more.
        auth.replace(authority.demands(&authority.revoke(&[3], 2025), &[]));
        let error = attempt(Some(&good)).expect_err("nobody is believed").server;
        assert!(
            matches!(
                error,
                Some(Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. }))
            ),
            "{error:?}"
        );

        auth.replace(authority.demands(&Revocations::default(), &[fingerprint(&good.der()[0])]));
        assert!(attempt(Some(&good)).is_ok());
        assert_refused(attempt(Some(&bad)), &CertificateError::ApplicationVerificationFailure);
    }
}

#[test]
fn a_client_that_is_only_asked_may_come_without_a_certificate_but_not_with_a_wrong_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let demands = authority.demands(&Revocations::default(), &[]);
    let server = server(names, None, Some(Arc::new(ClientAuth::new(ClientMode::Request, demands))));
    for version in VERSIONS {
        let attempt = |shows| agree(&Arc::new(authority.client(version, shows)), &server, NAME);
        assert_eq!(attempt(None).expect("agreed").server.peer_certificates(), None);
        let known = authority.issue("known", 2);
        let agreed = attempt(Some(&known)).expect("agreed");
        assert_eq!(agreed.server.peer_certificates(), Some(&known.der()[..]));
        assert!(attempt(Some(&other.issue("stranger", 2))).is_err());
    }
}

/// What a client that has several certificates chooses by.
#[test]
fn clients_are_told_the_authorities_that_are_believed_now() {
    use rustls::server::danger::ClientCertVerifier;
    let [first, second] = [(); 2].map(|()| Authority::new());
    let demands = |authority: &Authority| authority.demands(&Revocations::default(), &[]);
    let auth = ClientAuth::new(ClientMode::Require, demands(&first));
    let told = || auth.root_hint_subjects().iter().map(|name| name.as_ref().to_vec()).collect::<Vec<_>>();
    let own = told();
    assert_eq!(own.len(), 1);
    for round in 0..100 {
        auth.replace(demands(&second));
        auth.replace(demands(&first));
        assert_eq!(told(), own, "round {round}");
    }
}

#[test]
fn a_client_gets_a_certificate_that_it_can_verify() {
    let authority = Authority::new();
    let (ecdsa, rsa) = (authority.issue(NAME, 1), authority.issue_with(NAME, 2, &rcgen::PKCS_RSA_SHA256));
    let server = server(names(&[rsa.identity(), ecdsa.identity()]), None, None);
    let with =
        |suites: Vec<SupportedCipherSuite>| CryptoProvider { cipher_suites: suites, ..default_provider() };
    let check = |provider: CryptoProvider, expected: &Issued| {
        let client = Arc::new(authority.client_with(provider, &TLS12, None));
        let agreed = agree(&client, &server, NAME).expect("agreed");
        assert_eq!(*agreed.certificate(), expected.der()[0]);
    };
    check(default_provider(), &ecdsa);
    check(with(vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]), &rsa);
    check(with(vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]), &ecdsa);
    for version in VERSIONS {
        let client = Arc::new(authority.client(version, None));
        assert_eq!(*agree(&client, &server, NAME).expect("agreed").certificate(), ecdsa.der()[0]);
    }
}

#[test]
fn the_exchange_of_keys_withstands_quantum_computers_where_the_client_knows_it() {
    let authority = Authority::new();
    let server = server(names(&[authority.issue(NAME, 1).identity()]), None, None);
    let agreed = agree(&Arc::new(authority.client(&TLS13, None)), &server, NAME).expect("agreed");
    let group = agreed.server.negotiated_key_exchange_group().expect("a group").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused() {
    let authority = Authority::new();
    let server = server(names(&[authority.issue(NAME, 1).identity()]), None, None);
    for version in VERSIONS {
        let mut client = authority.client(version, None);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let agreed = agree(&Arc::new(client.clone()), &server, NAME).expect("agreed");
        assert_eq!(agreed.client.alpn_protocol(), Some(&b"http/1.1"[..]));
        client.alpn_protocols = vec![b"h2".to_vec()];
        let client = agree(&Arc::new(client), &server, NAME).expect_err("nothing in common").client;
        assert_eq!(client, Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    }
}

#[test]
fn tls_1_2_is_refused_where_1_3_is_the_oldest() {
    let authority = Authority::new();
    let settings = ServerSettings {
        version_min: VersionMin::Tls13,
        alpn: &[],
        names: names(&[authority.issue(NAME, 1).identity()]),
        tickets: None,
        clients: None,
    };
    let server = server_config(settings).expect("a server");
    let client = agree(&Arc::new(authority.client(&TLS12, None)), &server, NAME).expect_err("refused").client;
    assert_eq!(client, Some(Error::AlertReceived(AlertDescription::ProtocolVersion)));
    assert!(agree(&Arc::new(authority.client(&TLS13, None)), &server, NAME).is_ok());
}

#[test]
fn certificates_change_under_handshakes_and_none_fails() {
    const ROUNDS: usize = 200;
    let authority = Authority::new();
    let issued: Vec<Issued> = (1..=4).map(|serial| authority.issue(NAME, serial)).collect();
    let names = names(&[issued[0].identity()]);
    let tickets = Tickets::new(keys_since(SystemTime::now()), scope("web"));
    let server = server(names.clone(), Some(tickets), None);
    let is_over = AtomicBool::new(false);
    let done = thread::scope(|threads| {
        let clients: Vec<_> = VERSIONS
            .iter()
            .map(|version| {
                threads.spawn(|| {
                    let (mut done, mut seen) = (0, Vec::new());
                    while !is_over.load(Ordering::Relaxed) || done == 0 {
                        // Without memory, so that each is a full one.
                        let client = Arc::new(authority.client(version, None));
                        let agreed = agree(&client, &server, NAME).expect("agreed");
                        let got = fingerprint(agreed.certificate());
                        if !seen.contains(&got) {
                            seen.push(got);
                        }
                        done += 1;
                    }
                    (done, seen.len())
                })
            })
            .collect();
        for round in 0..ROUNDS {
            names.replace(NameTable::new(&[issued[round % 4].identity()], UnknownName::Refused));
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no handshake failed")).collect::<Vec<_>>()
    });
    eprintln!("handshakes and different certificates, by version: {done:?}");
    let last = agree(&Arc::new(authority.client(&TLS13, None)), &server, NAME).expect("agreed");
    assert_eq!(*last.certificate(), issued[(ROUNDS - 1) % 4].der()[0]);
}

#[test]
fn an_endpoint_is_believed_by_its_authority_and_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let issued = authority.issue(NAME, 1);
    for version in VERSIONS {
        let server = plain_server(version, &issued);
        let attempt = |trust: ServerTrust, name: &str| {
            let config = upstream(trust, None).config().expect("a client");
            agree(&config, &server, name).map_err(|refused| refused.client)
        };
        let own = || ServerTrust::Authorities(authority.authorities());
        assert!(attempt(own(), NAME).is_ok());
        let error = attempt(own(), "b.example").expect_err("another name");
        assert!(
            matches!(error, Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))),
            "{error:?}"
        );
        assert!(attempt(ServerTrust::Authorities(other.authorities()), NAME).is_err());
        assert!(attempt(ServerTrust::Anybody, "b.example").is_ok());
    }
}

#[test]
fn a_change_of_trust_forgets_sessions() {
    let (authority, other) = (Authority::new(), Authority::new());
    let issued = authority.issue(NAME, 1);
    for version in VERSIONS {
        let server = plain_server(version, &issued);
        let own = ServerTrust::Authorities(authority.authorities());
        let upstream = upstream(own.clone(), None);
        let config = upstream.config().expect("a client");
        let resumes = || agree(&config, &server, NAME).map(|agreed| agreed.is_resumed()).ok();
        assert_eq!([resumes(), resumes()], [Some(false), Some(true)], "{version:?}");
        upstream.replace(&ServerTrust::Authorities(other.authorities()), None).expect("authorities");
        assert_eq!(resumes(), None);
        upstream.replace(&own, None).expect("authorities");
        assert_eq!([resumes(), resumes()], [Some(false), Some(true)]);
        // Each core's sessions are its own.
        let elsewhere = thread::scope(|threads| threads.spawn(resumes).join().expect("no panic"));
        assert_eq!(elsewhere, Some(false));
        assert_eq!(resumes(), Some(true));
    }
}

#[test]
fn an_endpoint_that_asks_is_shown_the_certificate_of_now() {
    let authority = Authority::new();
    let names = names(&[authority.issue(NAME, 1).identity()]);
    let demands = authority.demands(&Revocations::default(), &[]);
    let server = server(names, None, Some(Arc::new(ClientAuth::new(ClientMode::Request, demands))));
    let trust = ServerTrust::Authorities(authority.authorities());
    let (first, second) = (authority.issue("first", 2), authority.issue("second", 3));
    let upstream = upstream(trust.clone(), Some(first.identity()));
    let config = upstream.config().expect("a client");
    let shown = || {
        let agreed = agree(&config, &server, NAME).expect("agreed");
        agreed.server.peer_certificates().map(|chain| chain[0].clone())
    };
    assert_eq!(shown(), Some(first.der()[0].clone()));
    upstream.replace(&trust, Some(&second.identity())).expect("authorities");
    assert_eq!(shown(), Some(second.der()[0].clone()));
    upstream.replace(&trust, None).expect("authorities");
    assert_eq!(shown(), None);
}
