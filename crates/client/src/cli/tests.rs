use super::*;

#[test]
fn nobody_there_is_another_exit_than_a_refusal() {
    let unreachable = ClientError::Unreachable { attempts: Vec::new() };
    assert_eq!(Failure::from(unreachable).exit, Exit::Unreachable);
    let refused = ClientError::Refused {
        what: "x".to_owned(),
        code: 17,
        reason: "y".to_owned(),
    };
    assert_eq!(Failure::from(refused).exit, Exit::Failed);
}
