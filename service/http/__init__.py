"""HTTP: the connection, the middleware, bodies, routes, and the translation to the gate's words."""
