//! Which passwords are tried first? Words that lists of stolen passwords begin with, and what people put around them.
//!
//! Never asks a list elsewhere: a password leaves this process for nobody.

/// In lower case, letters alone. What stands around and between them is left out before they are compared.
const WORDS: [&str; 96] = [
    "abc",
    "abcd",
    "abcde",
    "abcdef",
    "abcdefg",
    "abcdefgh",
    "abcdefghij",
    "access",
    "admin",
    "administrator",
    "asdf",
    "asdfgh",
    "asdfghjk",
    "asdfghjkl",
    "azerty",
    "azertyuiop",
    "bailey",
    "baseball",
    "batman",
    "changeit",
    "changeme",
    "charlie",
    "computer",
    "corelane",
    "daniel",
    "default",
    "dragon",
    "football",
    "freedom",
    "gateway",
    "george",
    "google",
    "guest",
    "hallo",
    "hello",
    "hunter",
    "iloveyou",
    "internet",
    "jennifer",
    "jordan",
    "killer",
    "letmein",
    "login",
    "lovely",
    "loveme",
    "master",
    "michael",
    "michelle",
    "monkey",
    "mustang",
    "mypassword",
    "ninja",
    "nothing",
    "oracle",
    "pass",
    "passw",
    "passwd",
    "passwort",
    "password",
    "passphrase",
    "pokemon",
    "princess",
    "private",
    "qaz",
    "qazwsx",
    "qazwsxedc",
    "qwe",
    "qwer",
    "qwert",
    "qwerty",
    "qwertyui",
    "qwertyuiop",
    "qwertz",
    "qwertzuiop",
    "root",
    "sample",
    "secret",
    "server",
    "shadow",
    "soccer",
    "starwars",
    "summer",
    "sunshine",
    "superman",
    "system",
    "temp",
    "test",
    "tester",
    "trustno",
    "user",
    "welcome",
    "whatever",
    "winter",
    "zxc",
    "zxcvbn",
    "zxcvbnm",
];

/// Whether a password in lower case is one of them, once or several times over, with whatever digits and signs around; or no
/// letter at all is in it.
pub(super) fn is_common(lower: &str) -> bool {
    // Signs at the ends are what people add because they are told to; those inside stand for letters.
    let inner = lower.trim_matches(|sign: char| !sign.is_alphanumeric() && sign != '@' && sign != '$');
    let spelled: String =
        inner.trim_end_matches(|sign: char| sign.is_ascii_digit()).chars().map(letter).collect();
    let plain = |text: &str| text.chars().filter(|sign| sign.is_alphabetic()).collect::<String>();
    is_made_of_words(&plain(lower)) || is_made_of_words(&plain(&spelled))
}

/// The letter that a sign stands for.
fn letter(sign: char) -> char {
    match sign {
        '@' | '4' => 'a',
        '3' => 'e',
        '1' | '!' => 'i',
        '0' => 'o',
        '$' | '5' => 's',
        other => other,
    }
}

/// Whether nothing is left of `text` when words are taken off its beginning. Of two words that fit the longer may be the wrong one,
/// so each place that can be reached is noted; texts are bounded.
fn is_made_of_words(text: &str) -> bool {
    let mut can_reach = vec![false; text.len() + 1];
    can_reach[0] = true;
    for start in 0..text.len() {
        if !can_reach[start] {
            continue;
        }
        for word in WORDS {
            if text.as_bytes()[start..].starts_with(word.as_bytes()) {
                can_reach[start + word.len()] = true;
            }
        }
    }
    can_reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_lower_case_letters_and_each_there_once() {
        assert!(WORDS.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert!(
            WORDS.is_sorted_by(|one, other| one < other) || {
                let mut sorted = WORDS.to_vec();
                sorted.sort_unstable();
                sorted.windows(2).all(|pair| pair[0] != pair[1])
            }
        );
    }

    #[test]
    fn common_ones_are_found_however_they_are_dressed() {
        for common in [
            "",
            "1234567890",
            "password",
            "password1!",
            "p@ssw0rd",
            "2026-welcome-2026",
            "adminadmin",
            "admin_password",
            "qwerty.asdf.zxc",
            "letmein!!!!!!",
            "testtesttest123",
            "iloveyou<3<3<3",
        ] {
            assert!(is_common(common), "{common}");
        }
        for own in ["correct horse battery", "passwordx", "my dog has fleas", "xk7#qq9-tulip", "größenwahn"]
        {
            assert!(!is_common(own), "{own}");
        }
    }
}
