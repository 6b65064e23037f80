//! Background jobs: tasks that run beside the requests.

pub mod auth_reload;
