//! What every request passes on its way in and out: whose page asks, the routes, the dress of problems, the counting.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use warp::{
    Filter, Reply,
    filters::BoxedFilter,
    http::{HeaderValue, Method, Request, header},
    reply::Response,
};

use super::{
    Api, Route, Taken,
    call::header_value,
    error::{Code, Problem, recover},
    metrics::NO_ROUTE,
    origin::{self, Asking},
};

#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    api: Arc<Api>,
    routes: Vec<Route>,
    filter: BoxedFilter<(Response,)>,
}

impl Gate {
    pub fn new(api: Arc<Api>) -> Self {
        let routes = super::routes(&api);
        let none = warp::any().and_then(|| async { Err::<Response, _>(warp::reject::not_found()) }).boxed();
        let any = routes.iter().rev().fold(none, |others, route| route.filter.clone().or(others).unify().boxed());
        let filter = any.recover(recover).unify().boxed();
        Self(Arc::new(Inner { api, routes, filter }))
    }

    pub async fn pass(&self, mut request: Request<Incoming>) -> Response {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let asking = origin::judge(&method, request.headers(), &self.0.api.config.cors_origins);
        if method == Method::HEAD {
            // The connection leaves out the body.
            *request.method_mut() = Method::GET;
        }
        let mut response = match asking {
            Asking::Plain => self.route(request).await,
            Asking::Friend(_) => self.route(request).await,
            Asking::Preflight(ref origin) => origin::preflight(origin.clone()),
            Asking::Refused(ref problem) => problem.clone().into_response(),
        };
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            response = self.dress(&problem, &path, response.extensions().get().cloned());
        }
        if let Asking::Friend(origin) = asking {
            origin::permit(&mut response, origin);
        }
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.count(&method, &path, &response, started);
        response
    }

    /// A handler that panics costs its own answer only.
    async fn route(&self, request: Request<Incoming>) -> Response {
        let service = TowerToHyperService::new(warp::service(self.0.filter.clone()));
        match AssertUnwindSafe(service.call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let detail = "this is a bug: the request's handler panicked; the log says where";
                Problem::new(Code::Internal, detail).into_response()
            }
        }
    }

    fn dress(&self, problem: &Problem, path: &str, taken: Option<Taken>) -> Response {
        let mut response = problem.answer(path);
        if problem.is_method_not_allowed() {
            let here = self.0.routes.iter().filter(|route| route.is_at(path)).map(|route| route.method.as_str());
            let allowed = here.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] });
            let allowed: Vec<&str> = allowed.collect();
            response.headers_mut().insert(header::ALLOW, header_value(&allowed.join(", ")));
        }
        if let Some(taken) = taken {
            response.extensions_mut().insert(taken);
        }
        response
    }

    fn count(&self, method: &Method, path: &str, response: &Response, started: Instant) {
        let (status, took) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, path, status, ?took, "answered");
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let route = response.extensions().get::<Taken>().map_or(NO_ROUTE, |taken| &taken.0);
        self.0.api.metrics.answered(method, route, status, took);
    }
}
