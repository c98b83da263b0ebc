// A client of the token API with URLSession, for iOS 15 and macOS 12 or later.
//
//   let gateway = Portcullis(url: URL(string: "https://gateway.example")!)
//   try await gateway.logIn(username: "ada", password: password)
//   for try await event in try await gateway.stream("api/v1/generate/stream", body: order) { … }
//   try await gateway.logOut()
//
// Keep `tokens` in the key chain between two starts.

import Foundation

public struct Tokens: Codable, Equatable, Sendable {
    public let accessToken: String
    public let refreshToken: String

    enum CodingKeys: String, CodingKey {
        case accessToken = "access_token"
        case refreshToken = "refresh_token"
    }
}

/// What the gateway said no with; `status` is that of HTTP.
public struct Refused: Error {
    public let status: Int
    public let detail: String
}

public struct Event: Sendable {
    public var name = "message"
    public var data = ""
}

/// One user of the gateway. An actor, so that calls that fail together refresh once.
public actor Portcullis {
    public private(set) var tokens: Tokens?
    private let url: URL
    private let session: URLSession
    private var refreshing: Task<Tokens, Error>?

    public init(url: URL, tokens: Tokens? = nil, session: URLSession = .shared) {
        self.url = url
        self.tokens = tokens
        self.session = session
    }

    public func register(username: String, email: String, password: String) async throws {
        let body = ["username": username, "email": email, "password": password]
        _ = try await call("auth/register", body)
    }

    public func logIn(username: String, password: String) async throws {
        let data = try await call("auth/login", ["username": username, "password": password])
        tokens = try JSONDecoder().decode(Tokens.self, from: data)
    }

    /// Ends the session, with its tokens and streams.
    public func logOut() async throws {
        _ = try await data(request("auth/logout", method: "POST"))
        tokens = nil
    }

    /// Any call of a service behind the gateway. A 401 is answered by one refresh and one more try.
    public func data(_ request: URLRequest) async throws -> Data {
        let used = tokens
        var (data, response) = try await session.data(for: signed(request, used))
        if status(response) == 401, let used {
            let fresh = try await renewed(used)
            (data, response) = try await session.data(for: signed(request, fresh))
        }
        try check(response, data)
        return data
    }

    /// A POST that is answered by an event stream. Leaving the loop ends the upstream's work.
    public func stream(_ path: String, body: some Encodable) async throws -> AsyncThrowingStream<Event, Error> {
        var request = request(path, method: "POST")
        request.httpBody = try JSONEncoder().encode(body)
        // Between two events there may be any time. Heartbeats come every 15 s.
        request.timeoutInterval = 60
        let used = tokens
        var (bytes, response) = try await session.bytes(for: signed(request, used))
        if status(response) == 401, let used {
            let fresh = try await renewed(used)
            (bytes, response) = try await session.bytes(for: signed(request, fresh))
        }
        try check(response, Data())
        return events(bytes)
    }

    public func socket(_ path: String) -> URLSessionWebSocketTask {
        let task = session.webSocketTask(with: signed(request(path, method: "GET"), tokens))
        task.resume()
        return task
    }

    public nonisolated func request(_ path: String, method: String) -> URLRequest {
        var request = URLRequest(url: url.appendingPathComponent(path))
        request.httpMethod = method
        if method != "GET" { request.setValue("application/json", forHTTPHeaderField: "Content-Type") }
        return request
    }

    /// New tokens in place of `used`.
    private func renewed(_ used: Tokens) async throws -> Tokens {
        if let tokens, tokens != used { return tokens }
        if let refreshing { return try await refreshing.value }
        let task = Task { () throws -> Tokens in
            let data = try await call("auth/refresh", ["refresh_token": used.refreshToken])
            return try JSONDecoder().decode(Tokens.self, from: data)
        }
        refreshing = task
        defer { refreshing = nil }
        do {
            let fresh = try await task.value
            tokens = fresh
            return fresh
        } catch let refused as Refused where refused.status == 401 {
            // The session has ended: log in again. Anything else (503, no network) leaves the user signed in.
            tokens = nil
            throw refused
        }
    }

    /// A call that needs nobody signed in.
    private func call(_ path: String, _ body: [String: String]) async throws -> Data {
        var request = request(path, method: "POST")
        request.httpBody = try JSONEncoder().encode(body)
        let (data, response) = try await session.data(for: request)
        try check(response, data)
        return data
    }

    private nonisolated func signed(_ request: URLRequest, _ tokens: Tokens?) -> URLRequest {
        var request = request
        if let tokens { request.setValue("Bearer \(tokens.accessToken)", forHTTPHeaderField: "Authorization") }
        return request
    }

    private nonisolated func status(_ response: URLResponse) -> Int {
        (response as? HTTPURLResponse)?.statusCode ?? 0
    }

    private nonisolated func check(_ response: URLResponse, _ data: Data) throws {
        if (200..<300).contains(status(response)) { return }
        let detail = try? JSONDecoder().decode([String: String].self, from: data)["detail"]
        throw Refused(status: status(response), detail: detail ?? "")
    }

    /// `lines` leaves empty lines out, which is where events end: so the bytes are split here.
    private nonisolated func events(_ bytes: URLSession.AsyncBytes) -> AsyncThrowingStream<Event, Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    var event = Event(), line = [UInt8](), lines = [String]()
                    for try await byte in bytes {
                        guard byte == UInt8(ascii: "\n") else { line.append(byte); continue }
                        let text = String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line[...], as: UTF8.self)
                        line.removeAll(keepingCapacity: true)
                        if text.isEmpty {
                            // What has no data is a comment, which keeps the line warm.
                            if !lines.isEmpty { event.data = lines.joined(separator: "\n"); continuation.yield(event) }
                            (event, lines) = (Event(), [])
                        } else if let value = field("event", text) {
                            event.name = value
                        } else if let value = field("data", text) {
                            lines.append(value)
                        }
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    private nonisolated func field(_ name: String, _ line: String) -> String? {
        guard line.hasPrefix(name + ":") else { return nil }
        let value = line.dropFirst(name.count + 1)
        return String(value.first == " " ? value.dropFirst() : value)
    }
}
