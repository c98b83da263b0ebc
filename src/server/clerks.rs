//! The futures that handle requests, used again. Such a future is large (13 KB), and one made for each request
//! is copied whole when it is boxed: 13,000 of the 44,000 instructions of a small request. A clerk is boxed once, and
//! takes one request after the other. `http1` and `http2` give them work; what they do is `Gate::handle`'s.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};

use crate::body::Body;
use crate::downstream::Downstream;
use crate::gate::{Conn, Gate};
use crate::wire::vitals::Busy;

/// One worker's clerks that have nothing to do. Grows with the requests under way, up to a bound.
#[derive(Default)]
pub struct Clerks {
    idle: RefCell<Vec<Clerk>>,
}

/// A request to be handled.
#[expect(
    clippy::redundant_allocation,
    reason = "as in `Worker::gate`, which gives it"
)]
pub struct Order {
    /// By which gate.
    pub gate: Rc<Arc<Gate>>,
    /// Over which connection it came.
    pub conn: Rc<Conn>,
    /// The request.
    pub request: Request<Body>,
    /// What it may ask of that connection.
    pub downstream: Downstream,
    /// Keeps its connection from counting as idle.
    pub busy: Busy,
}

/// The answer to come. Dropped before, it ends the handling where it stands.
pub struct Handled {
    clerk: Option<Clerk>,
    clerks: Rc<Clerks>,
}

/// A future without end, which handles what lies in its tray.
struct Clerk {
    work: Pin<Box<dyn Future<Output = Infallible>>>,
    tray: Rc<Tray>,
}

/// What is large lies still in it: each hand that it passes through copies it.
#[derive(Default)]
struct Tray {
    order: RefCell<Option<Order>>,
    response: RefCell<Option<Response<Body>>>,
}

impl Clerks {
    /// Begins to handle a request.
    pub fn handle(self: &Rc<Self>, order: Order) -> Handled {
        let clerk = self.idle.borrow_mut().pop();
        let clerk = clerk.unwrap_or_else(Clerk::employ);
        *clerk.tray.order.borrow_mut() = Some(order);
        Handled {
            clerk: Some(clerk),
            clerks: Rc::clone(self),
        }
    }

    fn take_back(&self, clerk: Clerk) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_IDLE {
            idle.push(clerk);
        }
    }
}

impl Clerk {
    fn employ() -> Self {
        let tray = Rc::new(Tray::default());
        Self {
            work: Box::pin(work(Rc::clone(&tray))),
            tray,
        }
    }
}

async fn work(tray: Rc<Tray>) -> Infallible {
    loop {
        poll_fn(|_| tray.poll_order()).await;
        let Some(Order {
            gate,
            conn,
            request,
            downstream,
            busy,
        }) = tray.order.take()
        else {
            continue;
        };
        let response = gate.handle(&conn, request, Some(downstream), busy).await;
        *tray.response.borrow_mut() = Some(response);
    }
}

impl Tray {
    /// Who gives an order polls the clerk next: nobody is to be woken.
    fn poll_order(&self) -> Poll<()> {
        match *self.order.borrow() {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

impl Future for Handled {
    type Output = Response<Body>;

    /// Pending for ever once it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let Some(mut clerk) = self.clerk.take() else {
            return Poll::Pending;
        };
        let Poll::Pending = clerk.work.as_mut().poll(cx);
        match clerk.tray.response.take() {
            Some(response) => {
                self.clerks.take_back(clerk);
                Poll::Ready(response)
            }
            None => {
                self.clerk = Some(clerk);
                Poll::Pending
            }
        }
    }
}

/// How many clerks are kept with nothing to do: what a worker handles at once that is not at its limit.
const MOST_IDLE: usize = 64;
