//! What a test or a person tells the world while it runs, and asks it: HTTP on a
//! socket in the file system, so that it is reached from other network namespaces.

use serde_json::json;

use super::State;
use super::fault::Fault;
use super::message::{Answer, Asked};
use super::world::World;

/// Answers a request:
/// `GET /world`, `PUT /world`; `GET /faults`, `PUT /faults` (a list);
/// `GET /record`, `DELETE /record`; `GET /endpoints`.
pub fn answer(state: &State, asked: &Asked) -> Answer {
    let bad = |error: serde_json::Error| Answer::text(400, &error.to_string());
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/world") => Answer::json(200, &json!(state.lock().world)),
        ("PUT", "/world") => match serde_json::from_slice::<World>(&asked.body) {
            Err(error) => bad(error),
            Ok(world) => {
                state.lock().world = world;
                Answer::json(200, &json!({}))
            }
        },
        ("GET", "/faults") => Answer::json(200, &json!(state.lock().faults)),
        ("PUT", "/faults") => match serde_json::from_slice::<Vec<Fault>>(&asked.body) {
            Err(error) => bad(error),
            Ok(faults) => {
                state.lock().faults = faults;
                Answer::json(200, &json!({}))
            }
        },
        ("GET", "/record") => Answer::json(200, &json!(state.lock().record)),
        ("DELETE", "/record") => {
            state.lock().record.clear();
            Answer::json(200, &json!({}))
        }
        ("GET", "/endpoints") => {
            let endpoints: serde_json::Map<_, _> = state
                .endpoints
                .iter()
                .map(|(service, url)| (service.signing_name().to_owned(), json!(url)))
                .collect();
            Answer::json(200, &json!(endpoints))
        }
        _ => Answer::text(404, "there is no such thing"),
    }
}
