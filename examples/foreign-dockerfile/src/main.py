import flask

flask.Flask(__name__).run(host="0.0.0.0")
