//! Is what goes to PostgreSQL private, and is it who it says? As `sslmode` of the URL demands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use store::{Store, StoreError, StoreSettings};

use crate::ground::{Ground, directory, keeps};
use crate::server::Server;

/// Files of an authority, and of a certificate for `localhost` with its key.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("a new file");
            path
        };
        let files = Self {
            authority: write("authority.pem", &issuer.pem()),
            certificate: write("server.pem", &certificate.pem()),
            key: write("server.key", &key.serialize_pem()),
        };
        // PostgreSQL takes a key that its owner alone can read.
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("it is ours");
        files
    }
}

#[test]
fn sslmode_is_kept_to() {
    let files = Certificates::make(&directory());
    let server = Server::start_private(&files.certificate, &files.key);
    let trusted = format!("sslrootcert={}", files.authority.display());
    keeps(Ground::of(&server), async |ground| {
        let open = async |host: &str, parameters: &str| {
            let url = format!("{}?{parameters}", server.url_of(host, ground.name()));
            let settings = StoreSettings { url: url.parse().expect("a URL"), ..ground.settings() };
            let store = Store::open(settings).await?;
            let sql = format!(
                "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE datname = '{}' AND application_name = 'corelane' AND client_port > 0",
                ground.name()
            );
            let is_private = server.say("postgres", &sql);
            store.close().await;
            // Those that were closed are gone when the server says so.
            let sql = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{}'", ground.name());
            while server.say("postgres", &sql) != "0" {
                tokio::task::yield_now().await;
            }
            Ok::<_, StoreError>(is_private == "t")
        };
        assert_eq!(open("localhost", "").await, Ok(true), "preferred without a word");
        assert_eq!(open("localhost", "sslmode=disable").await, Ok(false));
        assert_eq!(open("127.0.0.1", "sslmode=require").await, Ok(true));
        assert_eq!(open("127.0.0.1", &format!("sslmode=verify-ca&{trusted}")).await, Ok(true));
        assert_eq!(open("localhost", &format!("sslmode=verify-full&{trusted}")).await, Ok(true));
        let strangers = [
            ("127.0.0.1", format!("sslmode=verify-full&{trusted}")),
            ("localhost", "sslmode=verify-full".to_owned()),
            ("localhost", "sslmode=verify-ca".to_owned()),
        ];
        let missing = open("localhost", "sslmode=verify-full&sslrootcert=/nowhere/authority.pem").await;
        let Err(StoreError::Refused { cause, help }) = missing else { panic!("no such file: {missing:?}") };
        assert!(cause.contains("/nowhere/authority.pem") && help.contains("sslrootcert"), "{cause}; {help}");
        for (host, parameters) in strangers {
            let refused = open(host, &parameters).await;
            let Err(StoreError::Refused { help, .. }) = refused else {
                panic!("{host} {parameters}: {refused:?}")
            };
            assert!(help.contains("sslmode"), "{help}");
        }
    });
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_demanded() {
    keeps(Ground::postgres(), async |ground| {
        let url = format!("{}&sslmode=require", ground.url());
        let refused = Store::open(StoreSettings::new(url.parse().expect("a URL"))).await.map(drop);
        let Err(StoreError::Refused { cause, help }) = refused else { panic!("it has none: {refused:?}") };
        assert!(cause.contains("TLS") && help.contains("sslmode"), "{cause}; {help}");
    });
}
